"""Slicer modules without the Slicer application: on the real MRML scene of `slicer-core`.

    scene.py             slicer.mrmlScene, slicer.modules.*.logic(), slicer.app without Qt, collected errors
    views.py             the layout manager and real slice logics
    files.py             slicer.util.loadVolume, saveNode, saveScene and the like
    sampledata.py        what a module registers in Sample Data
    pictures.py          pictures of real slice views, with segment outlines
    pythonqt.py          PySide6 made to behave like PythonQt
    ctkwidgets.py, mrmlwidgets.py   the few CTK and qMRML widgets a panel uses
    application.py       slicer.app with Qt, and the loader of scripted modules
    script.py            `Slicer --no-main-window --python-script`, as a process
    slicer_layer/        stand-in for Slicer's own Python files (ScriptedLoadableModule, parameterNodeWrapper, i18n)

Without Qt: `from Testing.harness import scene; scene.start()`.
With Qt: `from Testing.harness.application import loadModule`.
The environment variable SLICER_PYTHON_LAYER names a folder with Slicer's own Python files (Base/Python/slicer), which
then take the place of slicer_layer/.
"""
