"""The stand-in for 3D Slicer's Qt application keeps to what PythonQt, CTK and 3D Slicer do."""

from __future__ import annotations

import enum
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PySide6", reason="the stand-in for 3D Slicer's Qt application needs PySide6-Essentials")
pytest.importorskip("slicer", reason="the stand-in needs slicer-core")

import slicer
import standin

MODULE = """
    from typing import Annotated

    import qt
    import slicer
    from slicer import vtkMRMLScalarVolumeNode
    from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
    from slicer.ScriptedLoadableModule import *
    from slicer.util import VTKObservationMixin

    events = []

    @parameterNodeWrapper
    class Parameters:
        source: vtkMRMLScalarVolumeNode
        mask: vtkMRMLScalarVolumeNode | None = None
        level: Annotated[float, WithinRange(0, 10)] = 2.5
        choice: Annotated[str, Choice(["a", "b"])] = "b"
        on: bool = True

    class Probe(ScriptedLoadableModule):
        def __init__(self, parent):
            super().__init__(parent)
            parent.title = "Probe of the stand-in"
            parent.categories = ["Tests"]
            slicer.app.connect("startupCompleted()", lambda: events.append("startup"))

    class ProbeWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
        def __init__(self, parent=None):
            ScriptedLoadableModuleWidget.__init__(self, parent)
            VTKObservationMixin.__init__(self)
            self.clicks = []

        def setup(self):
            super().setup()
            form = slicer.util.loadUI(self.resourcePath("UI/Probe.ui"))
            self.layout.addWidget(form)
            self.ui = slicer.util.childWidgetVariables(form)
            form.setMRMLScene(slicer.mrmlScene)
            self.ui.runButton.connect("clicked(bool)", self.clicks.append)
            self.parameters = Parameters(ProbeLogic().getParameterNode())
            self.tag = self.parameters.connectGui(self.ui)
            events.append("setup")

        def enter(self):
            events.append("enter")

        def exit(self):
            events.append("exit")

        def cleanup(self):
            self.parameters.disconnectGui(self.tag)
            events.append("cleanup")

    class ProbeLogic(ScriptedLoadableModuleLogic):
        pass

    class ProbeTest(ScriptedLoadableModuleTest):
        def test_something(self):
            self.delayDisplay("a test")
            events.append("test")
"""

FORM = """\
<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Probe</class>
 <widget class="qMRMLWidget" name="Probe">
  <layout class="QVBoxLayout">
   <item>
    <widget class="ctkCollapsibleButton" name="inputs">
     <property name="text"><string>Inputs</string></property>
     <layout class="QFormLayout">
      <item row="0" column="0"><widget class="QLabel" name="label">
       <property name="text"><string>Source</string></property></widget></item>
      <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="sourceSelector">
       <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
       <property name="noneEnabled"><bool>true</bool></property>
       <property name="SlicerParameterName" stdset="0"><string>source</string></property></widget></item>
      <item row="1" column="1"><widget class="ctkSliderWidget" name="slider">
       <property name="SlicerParameterName" stdset="0"><string>level</string></property></widget></item>
      <item row="2" column="1"><widget class="QComboBox" name="choices">
       <property name="SlicerParameterName" stdset="0"><string>choice</string></property></widget></item>
     </layout>
    </widget>
   </item>
   <item><widget class="QCheckBox" name="check">
    <property name="SlicerParameterName" stdset="0"><string>on</string></property></widget></item>
   <item><widget class="QPushButton" name="runButton"><property name="text"><string>Run</string></property>
   {extra}</widget></item>
  </layout>
 </widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends></customwidget>
  <customwidget><class>ctkSliderWidget</class><extends>QWidget</extends></customwidget>
 </customwidgets>
 <connections>
  <connection>
   <sender>Probe</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>sourceSelector</receiver><slot>{slot}</slot>
  </connection>
 </connections>
</ui>
"""


def write_module(folder: Path, extra: str = "", slot: str = "setMRMLScene(vtkMRMLScene*)") -> Path:
    """Write the scripted module Probe with its form, and return its folder."""
    (folder / "Resources" / "UI").mkdir(parents=True)
    (folder / "Probe.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    form = FORM.format(extra=extra, slot=slot)
    (folder / "Resources" / "UI" / "Probe.ui").write_text(form, encoding="utf-8")
    return folder


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    """A running application whose only module is Probe."""
    with standin.application(tmp_path / "application", write_module(tmp_path / "modules")) as running:
        yield running


def volume(name: str, scene: Any = None) -> Any:
    return (scene or slicer.mrmlScene).AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def selector(**properties: Any) -> Any:
    """Return a node selector of scalar volumes on the scene."""
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    for name, value in properties.items():
        setattr(box, name, value)
    box.setMRMLScene(slicer.mrmlScene)
    return box


# PythonQt


def test_properties_have_no_parentheses(app):
    import qt

    button = qt.QPushButton("Run")
    button.enabled = False
    button.setText("Cancel")
    assert (button.text, button.enabled, button.isEnabled()) == ("Cancel", False, False)
    with pytest.raises(TypeError, match="not callable"):
        button.text()
    label = qt.QLabel()
    label.text = 5
    label.alignment = qt.Qt.AlignRight | qt.Qt.AlignVCenter
    assert (label.text, label.alignment) == ("5", 130)
    label.text = None
    assert label.text == "None"  # PythonQt makes a string of anything


def test_refuses_names_that_the_class_does_not_have(app):
    import qt

    button = qt.QPushButton("Run")
    with pytest.raises(AttributeError, match="QPushButton has no attribute named 'caption'"):
        _ = button.caption
    with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
        button.caption = "Run"
    with pytest.raises(AttributeError, match="Slot 'click' can not be overwritten"):
        button.click = print
    with pytest.raises(AttributeError, match="does not accept an object of type str"):
        button.minimumWidth = "wide"
    with pytest.raises(AttributeError, match="has no attribute 'QNoSuchWidget'"):
        _ = qt.QNoSuchWidget
    assert not hasattr(qt.QCheckBox(), "checkStateChanged")  # Qt 6 only
    # A plain C++ method of the header, which is neither slot nor invokable; the property is reachable.
    box = selector(noneEnabled=True)
    assert box.noneEnabled is True
    with pytest.raises(AttributeError, match="setNoneEnabled"):
        box.setNoneEnabled(False)


def test_calls_take_what_pythonqt_takes(app):
    import qt

    label = qt.QLabel()
    label.setAlignment(4)  # any int for an enumeration
    label.setMinimumWidth(12.9)
    button = qt.QPushButton()
    button.setText(3)
    assert (label.alignment, label.minimumWidth, button.text) == (4, 12, "3")
    box = selector(noneEnabled="yes")
    assert box.noneEnabled is True
    with pytest.raises(AttributeError, match="does not accept an object of type str"):
        box.sizeAdjustPolicy = "wide"
    with pytest.raises(ValueError, match="keyword arguments"):
        label.setText(text="no")
    with pytest.raises(ValueError, match="wrong arguments"):
        label.setBuddy("no widget")
    assert isinstance(qt.QMessageBox.Yes, int)
    box = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)  # not an Orientation
    assert [button.text for button in box.buttons()] == ["OK", "Cancel"]
    combo = qt.QComboBox()
    combo.addItems(["one", "two"])
    assert [combo.itemText(index) for index in range(combo.count)] == ["one", "two"]


def test_objects_are_known_again(app):
    import qt

    parent = qt.QWidget()
    layout = qt.QVBoxLayout(parent)
    child = qt.QPushButton("x")
    child.name = "child"
    layout.addWidget(child)
    assert child.parent() is parent
    assert parent.child is child  # PythonQt finds children by their names
    assert parent.findChildren(qt.QPushButton) == (child,)
    assert parent.findChild("QPushButton", "child") is child
    assert (child.className(), child.inherits("QAbstractButton"), isinstance(child, qt.QWidget)) == (
        "QPushButton",
        True,
        False,  # PythonQt's classes do not inherit from each other
    )
    child.setProperty("note", 3)
    assert (child.note, child.property("nothing")) == (3, None)
    parent.delete()
    assert not child
    with pytest.raises(ValueError, match="destroyed QPushButton"):
        child.click()


def test_connects_by_signature(app):
    import qt

    heard: list[Any] = []

    def two(a, b):  # more than any signal has
        heard.append((a, b))

    button = qt.QPushButton("x")
    button.checkable = True
    assert button.connect("clicked(bool)", heard.append) is True
    button.connect("clicked()", lambda: heard.append("clicked"))
    button.toggled.connect(lambda: heard.append("toggled"))  # takes none of the arguments
    button.click()
    assert sorted(map(str, heard)) == ["True", "clicked", "toggled"]
    assert button.disconnect("clicked(bool)", heard.append) is True
    assert button.disconnect("clicked(bool)", heard.append) is False
    heard.clear()
    button.clicked()  # calling a signal emits it
    assert heard == ["clicked"]

    assert button.connect("pressed(bool)", print) is False
    assert app.complaints == ["PythonQt: QObject::connect() signal 'pressed(bool)' does not exist on QPushButton"]
    app.complaints.clear()

    button.connect("clicked(bool)", two)
    button.click()  # the exception is printed, as 3D Slicer does, and kept
    assert "missing 1 required positional argument" in app.complaints.pop()


def test_python_classes_override_virtual_functions(app):
    import qt

    class Watcher(qt.QObject):
        def __init__(self, parent):
            super().__init__(parent)
            self.seen = []

        def eventFilter(self, watched, event):  # noqa: N802
            self.seen.append((watched, event.type()))
            return False

    label = qt.QLabel()
    watcher = Watcher(label)
    label.installEventFilter(watcher)
    label.text = "changed"
    label.show()
    assert (label, qt.QEvent.Show) in watcher.seen


def test_timers_and_settings(app, tmp_path):
    import qt

    ticks: list[int] = []
    timer = qt.QTimer()
    timer.setInterval(1)
    timer.connect("timeout()", lambda: ticks.append(1))
    qt.QTimer.singleShot(0, lambda: ticks.append(10))
    timer.start()
    app.wait_until(lambda: len(ticks) > 3)
    timer.stop()
    assert ticks.count(10) == 1
    qt.QSettings().setValue("Probe/seen", "yes")
    assert slicer.util.settingsValue("Probe/seen", "no") == "yes"
    assert slicer.app.userSettings().value("Probe/seen") == "yes"
    assert tmp_path in Path(slicer.app.slicerUserSettingsFilePath).parents


# Dialogs


def test_answers_dialogs(app):
    import qt

    app.answers += [True, qt.QMessageBox.No, "Ok", "/tmp/a.nii", lambda dialog: dialog.title, None]
    assert slicer.util.confirmOkCancelDisplay("Install?", detailedText="300 MB") is True
    assert slicer.util.confirmYesNoDisplay("Sure?") is False
    slicer.util.errorDisplay("Broken", detailedText="why")
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nii") == "/tmp/a.nii"
    assert qt.QInputDialog.getText(None, "Name", "New name:") == "Name"
    assert qt.QFileDialog.getExistingDirectory() == ""
    kinds = [(dialog.kind, dialog.text, dialog.detail) for dialog in app.dialogs]
    assert kinds[:3] == [("question", "Install?", "300 MB"), ("question", "Sure?", ""), ("critical", "Broken", "why")]


def test_a_dialog_without_an_answer_raises(app):
    with pytest.raises(AssertionError, match="no answer for this dialog"):
        slicer.util.confirmYesNoDisplay("Sure?")
    assert len(app.complaints) == 1  # and the end of the test would fail, if somebody caught that
    app.complaints.clear()


# Forms and modules


def test_a_module_lives_as_in_slicer(app):
    widget = app.open("Probe")
    events = sys.modules["Probe"].events
    assert events == ["startup", "setup", "enter"]
    assert slicer.modules.probe.title == "Probe of the stand-in"
    assert slicer.util.selectedModule() == "Probe"
    assert widget.parent.className() == "qSlicerScriptedLoadableModuleWidget"
    app.leave()
    assert events.pop() == "exit"

    again = app.reload("Probe")
    assert events.pop() == "cleanup"
    assert sys.modules["Probe"].events == ["setup"]  # the file was executed again
    assert again is not widget
    assert again is slicer.modules.ProbeWidget

    slicer.selfTests["Probe"]()
    events = sys.modules["Probe"].events
    assert events.pop() == "test"
    quits: list[int] = []
    slicer.app.connect("aboutToQuit()", lambda: quits.append(1))
    app.quit()
    assert (quits, events[-1]) == ([1], "cleanup")
    assert not hasattr(slicer.modules, "probe")


def test_everything_is_put_back(tmp_path):
    before = dict(vars(slicer)), set(sys.modules) & {"qt", "ctk", "Probe", "SampleData"}, list(sys.path)
    folder = write_module(tmp_path / "modules")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), standin.application(tmp_path / "application", folder) as app:
            app.open("Probe").ui.runButton.click()
            _ = 1 / 0
        after = dict(vars(slicer)), set(sys.modules) & {"qt", "ctk", "Probe", "SampleData"}, list(sys.path)
        assert after == before


def test_complaints_fail_the_end(tmp_path):
    with (
        pytest.raises(AssertionError, match="only have printed"),
        standin.application(tmp_path) as app,
    ):
        import qt

        button = qt.QPushButton()
        button.connect("clicked()", lambda: 1 / 0)
        button.click()
        assert len(app.complaints) == 1


def test_complains_of_exceptions_in_observers_and_of_qt(app):
    import qt

    node = volume("A")
    node.AddObserver("ModifiedEvent", lambda caller, event: 1 / 0)
    node.SetName("B")
    assert "ZeroDivisionError" in app.complaints.pop()
    widget = qt.QWidget()
    qt.QVBoxLayout(widget)
    qt.QVBoxLayout(widget)
    assert "already has a layout" in app.complaints.pop()


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ({"extra": '<property name="noSuch"><bool>true</bool></property>'}, "sets 'noSuch' of runButton"),
        ({"slot": "setScene(vtkMRMLScene*)"}, "qMRMLNodeComboBox has no attribute named 'setScene'"),
    ],
)
def test_complains_of_forms(tmp_path, form, complaint):
    folder = write_module(tmp_path / "modules", **form)
    with standin.application(tmp_path / "application", folder) as app:
        slicer.util.loadUI(str(folder / "Resources" / "UI" / "Probe.ui"))
        assert complaint in app.complaints.pop()


def test_widgets_of_a_form(app):
    widget = app.open("Probe")
    widget.ui.runButton.click()
    assert widget.clicks == [False]
    assert widget.ui.inputs.collapsed is False
    assert widget.ui.sourceSelector.visible
    heard: list[bool] = []
    widget.ui.inputs.connect("contentsCollapsed(bool)", heard.append)
    widget.ui.inputs.collapsed = True
    assert (heard, widget.ui.sourceSelector.visible, widget.ui.inputs.checked) == ([True], False, False)
    # What is told to show or hide itself meanwhile does so when the section is opened again.
    widget.ui.label.setVisible(False)
    widget.ui.slider.setVisible(False)
    widget.ui.slider.setVisible(True)
    assert not widget.ui.slider.visible
    widget.ui.inputs.collapsed = False
    assert widget.ui.sourceSelector.visible
    assert widget.ui.slider.visible
    assert not widget.ui.label.visible


def test_the_panel_is_drawn(app, tmp_path):
    from PySide6.QtGui import QImage

    app.open("Probe")
    light, dark = app.grab(tmp_path / "light.png", 380, module_name="Probe"), tmp_path / "dark.png"
    app.grab(dark, 300, dark=True, module_name="Probe")
    light_image, dark_image = QImage(str(light)), QImage(str(dark))
    assert (light_image.width(), dark_image.width()) == (380, 300)
    corners = [image.pixelColor(2, 2).lightness() for image in (light_image, dark_image)]
    assert corners[0] > 200
    assert corners[1] < 80
    colours = {light_image.pixel(x, y) for x in range(0, 380, 3) for y in range(0, light_image.height(), 3)}
    assert len(colours) > 20


# Node selector


def test_selector_follows_the_scene(app):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "label map")
    box = selector(noneEnabled=True, addEnabled=False)
    heard: list[Any] = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append(node and node.GetName()))
    first, second = volume("first"), volume("second")
    assert (box.nodeCount(), box.currentNode(), box.enabled) == (3, None, True)
    box.showChildNodeTypes = False
    assert [box.nodeFromIndex(index).GetName() for index in range(box.nodeCount())] == ["first", "second"]

    box.setCurrentNode(second)
    assert (box.currentNodeID, heard) == (second.GetID(), ["second"])
    second.SetName("renamed")
    assert box.findChild("QComboBox").currentText == "renamed"
    second.SetHideFromEditors(True)
    assert (box.nodeCount(), box.currentNode()) == (1, first)

    slicer.mrmlScene.RemoveNode(first)
    assert (box.currentNode(), heard[-1]) == (None, None)
    volume("third")
    box.setCurrentNodeIndex(0)
    slicer.mrmlScene.Clear(0)
    assert (box.nodeCount(), box.currentNode(), heard[-2:]) == (0, None, ["third", None])


@pytest.mark.parametrize("actions", [True, False])
@pytest.mark.parametrize(("removed", "taken"), [("first", "second"), ("second", "third"), ("third", "second")])
def test_selector_takes_another_node_when_its_own_goes(app, removed, taken, actions):
    """As in 3D Slicer, where a panel must not take the other node for the user's choice."""
    nodes = {name: volume(name) for name in ("first", "second", "third")}
    box = selector(noneEnabled=True, addEnabled=actions, removeEnabled=actions)
    box.setCurrentNode(nodes[removed])
    heard: list[Any] = []
    box.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    slicer.mrmlScene.RemoveNode(nodes[removed])
    assert box.currentNode() is nodes[taken]
    assert heard == [nodes[taken]]


def test_selector_without_none_and_actions_takes_the_first_node(app):
    actions = {"addEnabled": False, "removeEnabled": False}
    with_actions, without = selector(noneEnabled=False), selector(noneEnabled=False, **actions)
    node = volume("only")
    assert (with_actions.currentNode(), without.currentNode()) == (None, node)


def test_selector_filters_by_attribute_and_makes_nodes(app):
    box = selector(noneEnabled=True, baseName="Made")
    box.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "t2")
    plain, other = volume("plain"), volume("other")
    other.SetAttribute("Kind", "t2")
    assert (box.nodeCount(), box.nodeFromIndex(0)) == (1, other)
    made: list[Any] = []
    box.connect("nodeAddedByUser(vtkMRMLNode*)", made.append)
    node = box.addNode()
    assert (node.GetName(), node.GetAttribute("Kind"), box.currentNode(), made) == ("Made", "t2", node, [node])
    assert plain.GetAttribute("Kind") is None
    box.setCurrentNodeID("nothing")
    assert box.currentNode() is None


# Parameter node


def test_parameters_come_back_with_the_scene(app, tmp_path):
    widget = app.open("Probe")
    source = volume("source")
    widget.ui.sourceSelector.setCurrentNode(source)
    widget.ui.slider.value = 7.5
    widget.ui.choices.currentIndex = 0
    widget.ui.check.checked = False
    parameters = widget.parameters
    assert (parameters.source, parameters.level, parameters.choice, parameters.on) == (source, 7.5, "a", False)
    node = parameters.parameterNode
    assert (node.GetSingletonTag(), node.GetAttribute("ModuleName")) == ("Probe", "Probe")
    assert (node.GetParameter("level"), node.GetNodeReferenceID("source")) == ("7.5", source.GetID())
    parameters.mask = source
    assert node.GetNodeReferenceID("mask.0") == source.GetID()

    slicer.mrmlScene.SetURL(str(tmp_path / "saved.mrml"))
    assert slicer.mrmlScene.Commit()
    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.Connect()
    made = sys.modules["Probe"].Parameters(sys.modules["Probe"].ProbeLogic().getParameterNode())
    assert (made.level, made.choice, made.on) == (7.5, "a", False)
    assert made.source.GetName() == made.mask.GetName() == "source"


def test_parameters_are_checked(app):
    widget = app.open("Probe")
    with pytest.raises(ValueError, match="within range"):
        widget.parameters.level = 11.0
    with pytest.raises(TypeError, match="must be of type"):
        widget.parameters.source = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    assert widget.parameters.level == 2.5
    widget.parameters.level = 5.0
    assert widget.ui.slider.value == 5.0
    widget.parameters.disconnectGui(widget.tag)
    widget.ui.slider.value = 1.0
    assert widget.parameters.level == 5.0


def test_annotations_that_slicer_warns_of(app, caplog):
    """3D Slicer logs a warning for each, when the module is loaded."""
    from typing import Annotated

    from slicer.parameterNodeWrapper import Decimals, WithinRange, parameterNodeWrapper

    class Choices:
        level: Annotated[float, WithinRange(0, 1), Decimals(2)] = 0.5

    Choices.__annotations__ = {"level": Annotated[float, WithinRange(0, 1), Decimals(2)]}
    parameterNodeWrapper(Choices)
    assert "Unused annotations: [Decimals(value=2)]" in caplog.text


# Application


def test_views_take_layers_and_annotations(app):
    node = volume("A")
    slicer.util.setSliceViewerLayers(background=node, foreground=None, fit=True)
    manager = slicer.app.layoutManager()
    assert manager.sliceViewNames() == ("Red", "Yellow", "Green")
    for name in manager.sliceViewNames():
        view = manager.sliceWidget(name)
        assert view.mrmlSliceCompositeNode().GetBackgroundVolumeID() == node.GetID()
        assert view.sliceLogic().GetSliceNode() is view.mrmlSliceNode()
        view.sliceView().cornerAnnotation().SetText(2, f"SYNTHETIC {name}")
        view.sliceView().scheduleRender()
    red = manager.sliceWidget("Red")
    assert red.sliceView().cornerAnnotation().GetText(2) == "SYNTHETIC Red"
    assert red.mrmlSliceNode().GetOrientation() == "Axial"
    slicer.util.forceRenderAllViews()
    slicer.util.resetSliceViews()
    slicer.mrmlScene.Clear(0)
    assert red.mrmlSliceCompositeNode().GetBackgroundVolumeID() is None
    assert slicer.mrmlScene.IsNodePresent(red.mrmlSliceNode())


def test_the_application_says_what_it_is(app, tmp_path):
    assert (slicer.app.applicationName, slicer.app.applicationVersion) == ("Slicer", "5.10.0")
    assert (slicer.app.majorVersion, slicer.app.minorVersion) == (5, 10)
    assert tmp_path in Path(slicer.app.temporaryPath).parents
    assert slicer.app.mrmlScene() is slicer.mrmlScene
    assert slicer.util.mainWindow().className() == "qSlicerMainWindow"
    assert slicer.util.showStatusMessage("Hello") is True
    import qt

    qt.QApplication.clipboard().setText("copied")
    assert slicer.app.clipboard().text() == "copied"
    assert qt.QDesktopServices.openUrl(qt.QUrl("https://example.org/x")) is True
    assert app.opened_urls == ["https://example.org/x"]
    with pytest.raises(RuntimeError, match="installs nothing"):
        slicer.util.pip_install("nothing")
    with pytest.raises(NotImplementedError, match="does not imitate qSlicerApplication::restart"):
        slicer.app.restart()


def test_extensions_come_from_a_server_that_the_test_fills(app):
    app.extensions.on_server.append("PyTorch")
    manager = slicer.app.extensionsManagerModel()
    app.answers += [False, True]
    assert manager.installExtensionFromServer("PyTorch", False) is False  # declined
    assert manager.installExtensionFromServer("PyTorch", False) is True
    assert manager.isExtensionInstalled("PyTorch")
    manager.interactive = False
    assert manager.installExtensionFromServer("Nothing") is False


def test_sample_data_is_kept(app):
    import SampleData

    fields = {"uris": "", "fileNames": "a.nrrd", "nodeNames": "A", "customDownloader": lambda source: [source]}
    SampleData.SampleDataLogic.registerCustomSampleDataSource(category="Tests", sampleName="A", **fields)
    SampleData.SampleDataLogic.registerCustomSampleDataSource(category="Tests", sampleName="A", **fields)
    (source,) = slicer.modules.sampleDataSources["Tests"]
    assert SampleData.SampleDataLogic().downloadSample("A") == [source]


def test_imitated_classes_keep_to_the_headers(app):
    """Every imitated class has the base of the real one, and nothing public that the real one has not."""
    from PySide6.QtCore import Property
    from standin import loading, members, names, qt_modules, slicer_app

    listed = json.loads((Path(standin.__file__).parent / "allowed_names.json").read_text(encoding="utf-8"))["classes"]
    imitated = {**qt_modules.CUSTOM_WIDGETS, **loading.LOADING_CLASSES}
    imitated["qSlicerApplication"] = slicer_app.qSlicerApplication
    imitated["qSlicerMainWindow"] = slicer_app.qSlicerMainWindow
    for name, widget in imitated.items():
        base = name
        while base in listed:
            base = listed[base]["base"]
        if base.startswith("Q"):
            assert members.qt_base(widget).__name__ == base, name
        declared = [names.declared(cls.__name__) for cls in widget.__mro__ if cls.__name__ in listed]
        allowed = {n for d in declared for n in (*d.properties, *d.slots, *d.signals)}
        own = {
            n
            for cls in widget.__mro__
            if cls.__name__ in listed
            for n, value in vars(cls).items()
            if not n.startswith("_") and not isinstance(value, enum.EnumMeta)  # enumerations are not listed
        }
        inherited = set(dir(members.qt_base(widget)))
        helpers = {"staticMetaObject", "start", "end", "open_windows", "show_and_enter", "leave", "renders"}
        assert own - allowed - inherited <= helpers, name
        for cls in widget.__mro__:
            for attribute, value in vars(cls).items():
                if isinstance(value, Property) and cls.__name__ in listed:
                    assert any(attribute in d.properties for d in declared), f"{name}.{attribute}"
