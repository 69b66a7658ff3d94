"""`make demo`: what a planner does in the panel, through the module's logic on a real MRML scene.

Leaves in the output folder: scene.mrb, features.csv, verdicts.json and report.html with pictures of real slice views.
The scene is that of slicer-core; the Slicer application itself is not needed.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "HarmonizeModule"))

from Testing.harness import application  # noqa: E402

application.start()

import slicer  # noqa: E402
from tqdm import tqdm  # noqa: E402

from HarmonizeModuleLib import display, scene  # noqa: E402
from HarmonizeModuleLib.logic import HarmonizeModuleLogic  # noqa: E402
from HarmonizeModuleLib.sampleData import makeThreeScannerCase  # noqa: E402
from Testing.harness.pictures import SliceView, outline  # noqa: E402

from HarmonizeExtension import demo, pictures, report  # noqa: E402
from HarmonizeExtension.errors import HarmonizeError, OutputError, RefusedError  # noqa: E402
from HarmonizeExtension.files.writing import output_folder, write_json, write_text  # noqa: E402
from HarmonizeExtension.radiomics.table import FeatureTable  # noqa: E402


def main():
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", metavar="VOLUME", help="your own scan instead of the simulated case")
    parser.add_argument("--segmentation", metavar="SEG", help="its structures")
    parser.add_argument("--modality", choices=["MR", "CT", "PET"], help="of your own scan; MR by default")
    parser.add_argument("--units", choices=["SUV", "Bq/ml"], help="of a PET file that does not say them")
    parser.add_argument("--out", default="demo", metavar="DIR")
    options = parser.parse_args()
    start = time.time()
    try:
        folder = output_folder(options.out)
        results, introduction = ownScan(options) if options.input else simulatedCase()
        write(folder, results, introduction)
    except HarmonizeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 3 if isinstance(error, RefusedError) else 2
    for result in results:
        print(f"{result.case.before.name}: {result.verdict.status.value}  {'; '.join(result.verdict.reasons)}")
    print(f"{folder}/report.html, scene.mrb, features.csv, verdicts.json; {time.time() - start:.0f} s")
    return 0


def simulatedCase():
    """One person on three scanners, two of them harmonized to the first; and the table of a small cohort.

    By histogram matching, and the last one by PhyCHarm's model that ships as well.
    """
    with Bar("Simulating one person on three scanners"):
        volumes, segmentations = makeThreeScannerCase()
    matched = {"method": "histogram-matching", "target": volumes[0], "targetSegmentation": segmentations[0]}
    source, target = (volume.GetName().removeprefix("sample ") for volume in (volumes[-1], volumes[0]))
    mapped = {"method": "phycharm", "target": f"{source} -> {target}"}
    ways = [(1, matched), (2, matched), (2, mapped)]
    logic, results = HarmonizeModuleLogic(), []
    for number, way in ways:
        volume, segmentation = volumes[number], segmentations[number]
        with Bar(f"Harmonizing {volume.GetName()} by {way['method']}") as progress:
            result = logic.process(
                volume,
                segmentation,
                **way,
                referenceSegment="brain",
                protectedSegments=["lesion"],
                measuredSegments=["white matter", "grey matter", "lesion"],
                biasCorrection=True,
                progress=progress,
            )
        results.append((result, volume, segmentation))
    with Bar("Measuring a cohort") as progress:
        table = demo.scanner_table(progress=progress)
    print("Texture features that tell three scanners apart (chance alone: about 5 %):")
    for arm, shares in demo.in_percent(table).items():
        print(f"  {arm:28} {shares}")
    return [withPictures(*entry) for entry in results], demo.introduction(table)


def ownScan(options):
    """The user's own scan, with the method that the engine's demonstration takes for its modality."""
    scan = demo.own_scan(options.input, options.segmentation, options.modality, options.units)
    volume, segmentation = scene.nodesFromScan(scan)
    method, target = demo.OWN_SCAN_METHODS[scan.modality]
    with Bar(f"Harmonizing {scan.name}") as progress:
        result = HarmonizeModuleLogic().process(volume, segmentation, method=method, target=target, progress=progress)
    return [withPictures(result, volume, segmentation)], ""


@dataclasses.dataclass(frozen=True)
class Shown:
    """A result with pictures of slice views."""

    verdict: object
    case: object
    pictures: dict


def withPictures(result, volume, segmentation) -> Shown:
    """Slices through the smallest structure, where there is one: before, after, difference."""
    view, through = SliceView(size=(420, 480)), None
    for other in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        other.GetDisplayNode().SetVisibility(other is segmentation)
    if segmentation is not None:
        outline(segmentation)
        name = min(result.case.before.structures.values(), key=lambda s: s.array.sum()).name
        ids = {name: segmentID for segmentID, name in scene.segmentNames(segmentation).items()}
        through = segmentation.GetSegmentCenterRAS(ids[name])
    difference = display.showDifference(volume, result.outputVolume)
    volumes = {"before": volume, "after": result.outputVolume, "after minus before (red: brighter)": difference}
    shots = {caption: pictures.png(view.picture(node, through)) for caption, node in volumes.items()}
    slicer.mrmlScene.RemoveNode(difference)
    return Shown(result.verdict, result.case, shots)


def write(folder: Path, results: list[Shown], introduction: str) -> None:
    """The four files of the demonstration."""
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        bundle = Path(beside) / "scene.mrb"  # the name of the file becomes that of a folder inside it
        if not slicer.mrmlScene.WriteToMRB(str(bundle)):
            raise OutputError(f"the scene could not be written to '{folder}'; is the disk full?")
        bundle.replace(folder / "scene.mrb")
    tables = [shown.case.features for shown in results if shown.case.features.rows]
    if tables:
        FeatureTable.merged(tables).to_csv(folder / "features.csv")
    write_json({shown.case.before.name: shown.verdict.to_json() for shown in results}, folder / "verdicts.json")
    sections = [shown.case.section(shown.pictures) for shown in results]
    write_text(report.html(sections, "Harmonization demo", introduction), folder / "report.html")


class Bar:
    """A progress bar; used in a `with` block, it gives the callback."""

    def __init__(self, text):
        self.text = text

    def __enter__(self):
        self.bar = tqdm(total=100, desc=self.text, bar_format="{desc:52.52}{bar:20}| {elapsed}")
        return lambda fraction, text: self.bar.update(round(100 * fraction) - self.bar.n)

    def __exit__(self, kind, *_):
        self.bar.update(0 if kind else 100 - self.bar.n)
        self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
