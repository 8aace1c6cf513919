// Draws a dashboard's panels with the components of Grafana's front end.
//
// pictures.py writes NAME.json: panels as in the dashboard, with Prometheus's answers to their queries. What a
// Grafana server does between the two is here: answers become data frames, transformations and field
// configurations are applied, and a panel's type chooses its component. Only the state timeline has none:
// it is not a part of @grafana/ui.

import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides, createTheme, dateTime, FieldConfigOptionsRegistry, FieldType, getDisplayValueAlignmentFactors, getFieldDisplayValues,
  standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry, toDataFrame, transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, ThemeContext, TimeSeries, VizRepeater } from '@grafana/ui';

const theme = createTheme({ colors: { mode: 'light' } });
const ZONE = 'utc';

// -- Registries that a Grafana fills when it starts ------------------------------------------------------------------

const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'color', 'mappings', 'thresholds', 'links', 'noValue'];
const CUSTOM = [
  'axisPlacement', 'axisSoftMax', 'drawStyle', 'fillOpacity', 'lineInterpolation', 'lineStyle', 'lineWidth', 'showPoints', 'spanNulls',
  'stacking', 'thresholdsStyle', 'align', 'cellOptions', 'filterable', 'inspect', 'width',
];

function property(name, isCustom) {
  const nothing = () => null;
  return {
    id: isCustom ? `custom.${name}` : name, path: name, name, isCustom, process: (value) => value,
    shouldApply: () => true, editor: nothing, override: nothing, settings: {},
  };
}

const standard = STANDARD.map((name) => property(name, false));
const registry = new FieldConfigOptionsRegistry(() => [...standard, ...CUSTOM.map((name) => property(name, true))]);
standardFieldConfigEditorRegistry.setInit(() => standard);
const { filterFieldsByNameTransformer, mergeTransformer, organizeFieldsTransformer } = standardTransformers;
standardTransformersRegistry.setInit(() => [filterFieldsByNameTransformer, mergeTransformer, organizeFieldsTransformer].map(
  (it) => ({ id: it.id, name: it.name, transformation: it, editor: () => null })));

// -- Answers into data frames ----------------------------------------------------------------------------------------

function series(answer, target) {
  return answer.map(({ metric, values, value }) => {
    const points = values ?? [value];
    const legend = target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? '');
    return toDataFrame({ refId: target.refId, fields: [
      { name: 'Time', type: FieldType.time, values: points.map(([at]) => at * 1000) },
      { name: 'Value', type: FieldType.number, labels: metric, values: points.map(([, it]) => Number(it)),
        config: { displayNameFromDS: legend } },
    ] });
  });
}

function table(answer, target, several) {
  const names = [...new Set(answer.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const column = (name) => ({ name, type: FieldType.string, values: answer.map(({ metric }) => metric[name] ?? '') });
  return toDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: answer.map(({ value }) => value[0] * 1000) },
    ...names.map(column),
    { name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number,
      values: answer.map(({ value }) => Number(value[1])) },
  ] });
}

function usePanelData(panel) {
  const [data, setData] = useState(null);
  useEffect(() => {
    const frames = panel.targets.flatMap((target, at) => target.format === 'table'
      ? [table(panel.answers[at], target, panel.targets.length > 1)] : series(panel.answers[at], target));
    transformDataFrame(panel.transformations, frames).subscribe((transformed) => setData(applyFieldOverrides({
      data: transformed, fieldConfig: panel.fieldConfig, fieldConfigRegistry: registry, replaceVariables: (it) => it,
      theme, timeZone: ZONE,
    })));
  }, [panel]);
  return data;
}

// -- Panels ----------------------------------------------------------------------------------------------------------

function Repeated({ panel, data, width, height, orientation, children }) {
  const values = () => getFieldDisplayValues({
    data, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: (it) => it, theme,
    timeZone: ZONE,
  });
  return <VizRepeater getValues={values} renderValue={children} source={data} renderCounter={0} width={width} height={height}
    orientation={orientation} autoGrid={orientation === 'auto'} itemSpacing={8} minVizHeight={16} maxVizHeight={40}
    minVizWidth={8} getAlignmentFactors={getDisplayValueAlignmentFactors} />;
}

const KINDS = {
  bargauge: ({ panel, data, width, height }) =>
    <Repeated panel={panel} data={data} width={width} height={height} orientation="horizontal">
      {({ value, width, height, orientation, alignmentFactors }) =>
        <BarGauge value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
          width={width} height={height} orientation={orientation} alignmentFactors={alignmentFactors} theme={theme}
          displayMode={panel.options.displayMode} showUnfilled={panel.options.showUnfilled} namePlacement="auto"
          valueDisplayMode={panel.options.valueMode} />}
    </Repeated>,
  stat: ({ panel, data, width, height }) =>
    <Repeated panel={panel} data={data} width={width} height={height} orientation="auto">
      {({ value, width, height, count, alignmentFactors }) =>
        <BigValue value={value.display} width={width} height={height} count={count} alignmentFactors={alignmentFactors}
          theme={theme} colorMode={panel.options.colorMode} graphMode="none" justifyMode="auto"
          textMode={panel.options.textMode} wideLayout />}
    </Repeated>,
  table: ({ panel, data, width, height }) =>
    <Table data={data[0]} width={width} height={height} columnMinWidth={60} cellHeight={panel.options.cellHeight}
      initialSortBy={panel.options.sortBy} />,
  timeseries: ({ panel, data, range, width, height }) =>
    <TimeSeries frames={data} structureRev={1} width={width} height={height} timeRange={range} timeZone={ZONE}
      legend={panel.options.legend} options={panel.options} />,
};

function Content({ panel, range, width, height }) {
  const data = usePanelData(panel);
  if (data === null) {
    return null;
  }
  const Kind = KINDS[panel.type];
  const empty = data.every((frame) => frame.length === 0);
  if (empty || Kind === undefined) {
    const text = empty ? 'No data' : `@grafana/ui has no ${panel.type}`;
    return <div style={{ width, height, display: 'grid', placeItems: 'center' }}>{text}</div>;
  }
  return <Kind panel={panel} data={data} range={range} width={width} height={height} />;
}

// -- The page: Grafana's grid ----------------------------------------------------------------------------------------

const UNIT = 38, WIDTH = 60, GAP = 8; // pixels of a row and a column of the grid, and between panels

function Page({ panels, from, to }) {
  const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-1h', to: 'now' } };
  return panels.map((panel) => {
    const { x, y, w, h } = panel.gridPos;
    const width = w * WIDTH - GAP, height = h * UNIT - GAP;
    const place = { position: 'absolute', left: x * WIDTH + GAP, top: y * UNIT + GAP, width, height };
    if (panel.type === 'row') {
      return <div key={panel.id} style={{ ...place, fontWeight: 500 }}>{panel.collapsed ? '›' : '⌄'} {panel.title}</div>;
    }
    return <div key={panel.id} style={place}>
      <PanelChrome title={panel.title} width={width} height={height}>
        {(width, height) => <Content panel={panel} range={range} width={width} height={height} />}
      </PanelChrome>
    </div>;
  });
}

const answer = await fetch(`${location.search.slice(1)}.json`);
const dashboard = await answer.json();
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}><GlobalStyles /><Page {...dashboard} /></ThemeContext.Provider>);
const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
setTimeout(() => { window.rendered = bottom * UNIT + GAP; }, 3000); // components measure themselves and draw again
