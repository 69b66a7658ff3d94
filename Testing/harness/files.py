"""slicer.app.coreIOManager(): what slicer.util.loadVolume, loadSegmentation, saveNode, saveScene and the like call."""

from pathlib import Path

TYPES = {
    "SceneFile": (".mrb",),
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd"),
    "TableFile": (".csv", ".tsv"),
}


class CoreIOManager:
    """Reads and writes with the storage nodes and logics that Slicer's own readers use."""

    def __init__(self, scene, logics):
        self._scene, self._logics = scene, logics

    def fileType(self, path):
        name = str(path).lower()
        return next((kind for kind, endings in TYPES.items() if name.endswith(endings)), "NoFile")

    def fileWriterFileType(self, node):
        return "NodeFile"

    def loadNodes(self, fileType, properties, loaded=None, messages=None):
        path = str(properties["fileName"])
        if fileType == "SceneFile":
            return Path(path).is_file() and self._scene.ReadFromMRB(path, properties.get("clear", False))
        name = properties.get("name") or Path(path).name.split(".")[0]
        node = None
        if Path(path).is_file():  # VTK's readers print where a file is missing
            if fileType == "VolumeFile":
                node = self._logics["Volumes"].AddArchetypeVolume(path, name, int(properties.get("labelmap", False)))
            elif fileType == "SegmentationFile":
                node = self._logics["Segmentations"].LoadSegmentationFromFile(path, True, name)
            elif fileType == "TableFile":
                node = self._logics["Tables"].AddTable(path, name)
        if node is not None and loaded is not None:
            loaded.AddItem(node)
        return node is not None

    def saveNodes(self, fileType, properties, messages=None):
        path = str(properties["fileName"])
        if fileType == "SceneFile":
            return path.endswith(".mrb") and self._scene.WriteToMRB(path)
        node = self._scene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))
