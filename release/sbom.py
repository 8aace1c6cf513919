"""``python -m release.sbom OUTPUT``: the bill of materials of a release, as CycloneDX 1.6 in JSON.

The components are the requirements of ``requirements.lock`` with the hashes that pip checks; licences are what the
installed packages declare. SOURCE_DATE_EPOCH dates it, so the same commit makes the same bytes.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import metadata
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from exporter import __version__
from release import address, lock

ROOT = Path(__file__).parent.parent
NAME = "tcp-exporter"


def bill(locked: Iterable[lock.Locked], license_expression: str, homepage: str, at: datetime) -> Bom:
    """The bill of materials of this version, made at *at*, whose libraries are *locked*."""
    locked = list(locked)
    product = _component(NAME, __version__, ComponentType.APPLICATION, license_expression)
    product.external_references.add(ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(homepage)))
    components = {NAME: product}
    for it in locked:
        components[it.name] = _component(it.name, it.version, ComponentType.LIBRARY, _declared_license(it.name))
        components[it.name].external_references.add(
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(f"https://pypi.org/project/{it.name}/{it.version}/#files"),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in it.sha256],
            )
        )
    bom = Bom(
        components=[components[it.name] for it in locked],
        serial_number=uuid5(NAMESPACE_URL, f"{homepage}#{__version__}"),
    )
    bom.metadata.component, bom.metadata.timestamp = product, at
    for name, component in components.items():
        bom.register_dependency(component, [components[it.name] for it in locked if name in it.via])
    return bom


def _component(name: str, version: str, kind: ComponentType, license_expression: str) -> Component:
    purl = PackageURL("pypi", None, name, version)
    licenses = [LicenseFactory().make_from_string(license_expression)] if license_expression else []
    return Component(name=name, version=version, type=kind, purl=purl, bom_ref=str(purl), licenses=licenses)


def _declared_license(name: str) -> str:
    """What the installed package declares; older packages put it into another field, some the whole text."""
    declared = metadata(name).json
    short = str(declared.get("license_expression") or declared.get("license") or "")
    return "" if "\n" in short else short


def rendered(bom: Bom) -> str:
    """The JSON; ``ValueError`` where the schema of CycloneDX refuses it."""
    text = f"{JsonV1Dot6(bom).output_as_string(indent=2)}\n"
    refused = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if refused is not None:
        raise ValueError(str(refused))
    return text


def main(output: str) -> None:
    """Write the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = lock.parse((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    at = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    bom = bill(locked, project["license"], address.BASE, at)
    Path(output).write_text(rendered(bom), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
