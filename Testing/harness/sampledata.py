"""The SampleData module: records what is registered, and `press(sampleName)` does what the sample's button does.

Slicer keeps these rules, and so does this: `uris` must be given, as text or as a list with which every other list
agrees in length; a customDownloader runs only from the button, with the source, and Slicer ignores what it returns.
"""

import types

import slicer

LISTS = ("uris", "fileNames", "nodeNames", "loadFiles", "loadFileTypes", "checksums")


class SampleDataSource(types.SimpleNamespace):
    """One sample, with the fields of registerCustomSampleDataSource."""

    def __init__(self, uris, **fields):
        if isinstance(uris, str):
            fields = {name: [value] if name in LISTS else value for name, value in fields.items()}
            uris = [uris]
        for name in LISTS[1:]:
            if fields[name] is None:
                fields[name] = [None] * len(uris)
            if len(fields[name]) != len(uris):
                raise ValueError(f"sample {fields['sampleName']}: {len(uris)} uris but {len(fields[name])} {name}")
        super().__init__(uris=uris, **fields)


class SampleDataLogic:
    """What is registered stands in slicer.modules.sampleDataSources and .sampleDataSourceCategories, as in Slicer."""

    @staticmethod
    def registerCustomSampleDataCategory(category, title):
        _registered("sampleDataSourceCategories")[category] = {"title": title}

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
    ):
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
            loadFileTypes=loadFileTypes,
            loadFiles=loadFiles,
            loadFileProperties=loadFileProperties or {},
            checksums=checksums,
        )
        sources = _registered("sampleDataSources").setdefault(category, [])
        if source not in sources:
            sources.append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category=None):
        sources = _registered("sampleDataSources")
        return sources if category is None else sources.get(category, [])


def press(sampleName):
    """Run the customDownloader of a registered sample, and give back what it returns."""
    for sources in _registered("sampleDataSources").values():
        for source in sources:
            if source.sampleName == sampleName:
                return source.customDownloader(source)
    raise KeyError(f"no sample is registered under the name {sampleName!r}")


def _registered(name):
    if not hasattr(slicer.modules, name):
        setattr(slicer.modules, name, {})
    return getattr(slicer.modules, name)
