"""Bill of materials (CycloneDX 1.6, JSON) of a lock file: every package with its version, address and hashes.

Called by `make sbom`; needs no network. The library is used without its validating extra, which cyclonedx-bom would
bring: with that one installed each process that imports ray builds a grammar for seconds (decision 0028).
"""

import argparse
import tomllib
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from cyclonedx.contrib.hash.factories import HashTypeFactory
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import ExternalReference, ExternalReferenceType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from pip_requirements_parser import InstallRequirement, RequirementsFile


def package(requirement: InstallRequirement) -> Component:
    """One pinned requirement of a lock file."""
    version = requirement.get_pinned_version
    distribution = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{requirement.name}/{version}/"),
        hashes=[HashTypeFactory().from_composite_str(value) for value in requirement.hash_options],
    )
    return Component(
        name=requirement.name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{requirement.name}=={version}",
        purl=PackageURL("pypi", name=requirement.name, version=version),
        external_references=[distribution],
    )


def bill(lock: Path, project: Path) -> Bom:
    """The project with everything its lock file names; the same bytes for the same files."""
    about = tomllib.loads(project.read_text())["project"]
    root = Component(
        name=about["name"],
        type=ComponentType.APPLICATION,
        bom_ref="root-component",
        description=about["description"],
        licenses=[LicenseFactory().make_from_string(about["license"])],
    )
    metadata = BomMetaData(component=root, properties=[Property(name="cdx:reproducible", value="true")])
    metadata.tools.components.add(this_component())
    packages = [package(one) for one in RequirementsFile.from_file(str(lock)).requirements]
    bom = Bom(serial_number=uuid5(NAMESPACE_OID, lock.read_text()), metadata=metadata, components=packages)
    metadata.timestamp = None
    bom.register_dependency(root, packages)
    return bom


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("lock", type=Path, help="pinned requirements with hashes")
    parser.add_argument("project", type=Path, help="pyproject.toml")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    made = JsonV1Dot6(bill(arguments.lock, arguments.project)).output_as_string(indent=2)
    arguments.out.write_text(made + "\n")
