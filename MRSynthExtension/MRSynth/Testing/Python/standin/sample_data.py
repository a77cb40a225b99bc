"""Stand-ins for the modules `SampleData` and `slicer.packaging`: one keeps what is registered, one refuses."""
# ruff: noqa: N802 (the names are those of Qt and 3D Slicer)

from __future__ import annotations

import types
from typing import Any

import slicer

__all__ = ["packaging_module", "sample_data_module"]

_LISTS = ("uris", "fileNames", "nodeNames", "loadFiles", "loadFileTypes", "checksums")


class SampleDataSource:
    """One sample data set, as a module describes it.

    Raises
    ------
    ValueError, TypeError
        For fields that do not fit together, as in 3D Slicer: its lists must be there and of one length.
    """

    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFileProperties: dict | None = None,
    ) -> None:
        self.sampleName = sampleName
        self.sampleDescription = sampleDescription or sampleName
        self.customDownloader = customDownloader
        self.thumbnailFileName = thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}
        self.uris, self.fileNames, self.nodeNames = uris, fileNames, nodeNames
        self.loadFiles, self.loadFileTypes, self.checksums = loadFiles, loadFileTypes, checksums
        for name in _LISTS:
            value = getattr(self, name)
            if isinstance(uris, str):
                setattr(self, name, [value])
            elif value is None and isinstance(uris, (list, tuple)) and name != "fileNames":
                setattr(self, name, [None] * len(uris))
        lengths = {name: len(getattr(self, name)) for name in _LISTS}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"All fields of sample data source must have the same length\n{lengths}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SampleDataSource) and str(vars(self)) == str(vars(other))

    __hash__ = None  # type: ignore[assignment]


class SampleDataLogic:
    """Registration of sample data; `slicer.modules.sampleDataSources` holds it by category."""

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **fields: Any) -> None:
        """Register a data set under a category."""
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        source = SampleDataSource(**fields)
        if source not in sources:
            sources.append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        """Return what is registered, of one category or all."""
        sources = getattr(slicer.modules, "sampleDataSources", {})
        return sources if category is None else sources.get(category, [])

    def sourceForSampleName(self, sampleName: str) -> Any:
        """Return the data set of a name, or None."""
        every = [source for sources in self.sampleDataSourcesByCategory().values() for source in sources]
        return next((source for source in every if source.sampleName == sampleName), None)

    def downloadFromSource(self, source: Any, **_: Any) -> Any:
        """Load a data set by its own downloader; nothing is downloaded from the network."""
        if source.customDownloader is None:
            raise NotImplementedError("The stand-in downloads nothing.")
        return source.customDownloader(source)

    def downloadSample(self, sampleName: str) -> Any:
        """Load a data set by its name."""
        return self.downloadFromSource(self.sourceForSampleName(sampleName))


def sample_data_module() -> types.ModuleType:
    """Return the module `SampleData`."""
    module = types.ModuleType("SampleData", "Stand-in for 3D Slicer's module SampleData.")
    module.SampleDataLogic = SampleDataLogic
    module.SampleDataSource = SampleDataSource
    module.downloadSample = lambda sampleName: SampleDataLogic().downloadSample(sampleName)
    return module


def packaging_module() -> types.ModuleType:
    """Return the module `slicer.packaging`, which installs nothing; a test puts its own functions in."""
    module = types.ModuleType("slicer.packaging", "Stand-in for slicer.packaging: refuses.")

    def refuse(requirements: Any, *_: Any, **__: Any) -> None:
        raise RuntimeError(f"The stand-in installs nothing; it was asked for {requirements}.")

    module.pip_install = module.pip_ensure = module.pip_uninstall = refuse
    module.pip_check = lambda requirements, *_: False
    return module
