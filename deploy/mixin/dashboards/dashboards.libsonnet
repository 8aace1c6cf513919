// The JSON beside this file is generated from deploy/grafana by `make dashboards`.
{
  grafanaDashboards+:: {
    'tcp-host.json': import 'tcp-host.json',
    'tcp-fleet.json': import 'tcp-fleet.json',
  },
}
