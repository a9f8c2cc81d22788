"""compile: frontend -> passes -> backend -> artifact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from qir.arguments import check_batch, check_options, check_shapes, state_folder
from qir.backends import targets
from qir.backends.artifact import artifact
from qir.backends.artifact.names import BITS, REPORT
from qir.backends.toolchain import service
from qir.backends.toolchain.link import toolchain
from qir.inputs import batches_in_order, examples, first_batch
from qir.ir.errors import ArtifactError, DataError, FrontendError
from qir.ir.graph import Graph
from qir.ir.target import Target
from qir.ir.text.file import load_graph
from qir.net import Net, compiled, translated
from qir.passes import pipelines
from qir.passes.bits.choice import Bits, bits_text
from qir.passes.calibrate.observers import Observer
from qir.passes.infra.manager import Manager, Pass, divisors
from qir.passes.infra.tasks import Tell, quiet
from qir.passes.quantize.placement import plan_quantization
from qir.passes.rounding import Rounding
from qir.passes.sensitivity.sqnr import measure_sqnr
from qir.passes.transform.channel_ranges import first_samples, held_back
from qir.quantize import BitsRequest, Quantizer
from qir.report.build import build_report
from qir.report.chosen_bits import ChosenBits
from qir.runtime import Session

SQNR_SAMPLES = 16  # calibration samples on which every value is compared with the float graph


def compile(
    model: Any,
    *,
    calibration: Iterable[Any] | None = None,
    target: str | Target = "cpu",
    bits: BitsRequest = 8,
    rounding: Rounding | None = None,
    inputs: Sequence[Any] | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
    observer: str | Observer = "mse",
    state: str | Path | None = None,
    executor: Executor | None = None,
    passes: Sequence[Pass] = (),
    check: bool = False,
    progress: Tell | None = None,
) -> Net:
    """Compile a model to an integer-only program for `target`.

    model:        torch.nn.Module, ExportedProgram, torch.fx.GraphModule, the path, bytes or
                  ModelProto of an ONNX model, or a Graph of any stage.
    calibration:  inputs from which the ranges of activations are estimated: an array, or an
                  iterable of batches (arrays, tuples of one for each input, or mappings from the
                  inputs' names). A model that is quantized already has ranges and needs none.
    target:       a name that `qir targets` lists, or a Target.
    bits:         widths of weights and activations: 8; (4, 8) for (weights, activations);
                  "w4g32a8" with a scale for each 32 input channels; a mapping from layers to
                  widths, or its file; or qir.MixedPrecision(size=0.5), which chooses them for each
                  layer. Inputs and outputs of the network have 8 bits.
    rounding:     rounding of weights: None for the nearest; adaround, adaquant, gptq, gpfq,
                  quantease, adaround-blocks, adaquant-blocks; or passes such as AdaQuant(waves=1),
                  run one after the other.
    inputs:       example inputs of a torch module (default: the first calibration sample).
    batch:        value of a free batch size (default: 1, or that of `inputs`); for a torch module,
                  the first axis of its inputs.
    shapes:       shapes of inputs with other free sizes, by input.
    name:         name of the program (default: that of the file, class or graph).
    observer:     estimator of a range: min-max, percentile, mse, entropy.
    state:        folder for results of calibration, sensitivities and rounding; an interrupted
                  compile resumes from it, with the same result.
    executor:     concurrent.futures.Executor for sensitivities and rounding, such as a dask
                  client's (default: one process for each core).
    passes:       passes to run on the canonical graph, before calibration.
    check:        check the claim of every pass on sample inputs (slower).
    progress:     function called with (step, count so far, total count or 0 if unknown).

    Errors: FrontendError (the model cannot be imported), DataError (calibration data, or another
    argument), PassError (bits, rounding, passes), LowerError (the target cannot run it as integers,
    is unknown, or has no C compiler here), VerifyError (a proof fails), ArtifactError (the compiled
    program and the graph differ on this machine).
    """
    check_options(name, executor, passes, progress)
    check_batch(batch)
    machine = targets.find(target)
    toolchain(machine)  # what is missing is said before the work
    service.start()  # it loads TVM beside that
    tell = progress or quiet
    quantizer = Quantizer(bits, observer, rounding, machine, state_folder(state), executor, tell)
    first, batches = first_batch(calibration)
    if _is_torch(model):
        inputs = examples(model, inputs, first, batch)
    graph = imported(model, inputs, batch, shapes)
    batches = batches and batches_in_order(batches, [value.name for value in graph.inputs])
    manager = Manager(check=check, watch=lambda what, i, of: tell(f"pass {what}", i, of))
    stages = {graph.stage: graph}
    if graph.stage == "imported":
        graph = stages["canonical"] = manager.run(graph, pipelines.CANONICALIZE)
    chosen: ChosenBits | None = None
    sample: tuple[Any, ...] = ()
    judging: tuple[Any, ...] = ()
    if graph.stage == "canonical":
        graph = manager.run(graph, (*passes, *pipelines.LOWER))
    if graph.stage in ("canonical", "transformed"):
        plan_quantization(graph)  # an op without integers is refused now, not after the work
        if batches:
            sample, batches = first_samples(graph, batches)
            sample, judging = held_back(graph, sample, SQNR_SAMPLES)
    if graph.stage == "canonical":
        kinder = manager.run(graph, pipelines.transform(graph, sample))
        graph = stages["transformed"] = kinder
    if graph.stage == "transformed":
        graph, chosen = quantizer.run(graph, batches, sample, manager)
        stages["simulated"] = graph
    if graph.stage == "simulated":
        graph = stages["integer"] = manager.run(graph, pipelines.TO_INTEGER)
    return _built(name or _name_of(model, graph), machine, stages, judging, chosen, manager, tell)


def _built(
    name: str,
    machine: Target,
    stages: Mapping[str, Graph],
    sample: tuple[Any, ...],
    chosen: ChosenBits | None,
    manager: Manager,
    tell: Tell,
) -> Net:
    """The artifact of the integer graph, with its report and the choice of its bits."""
    graph = stages["integer"]
    tell("kernels", 0, 1)
    built = artifact.build(graph, machine, name)
    tell("kernels", 1, 1)
    noise: dict[str, float] = {}
    if sample:  # against the user's model: no pass can hide what it changed
        model = stages["canonical"] if "canonical" in stages else stages["transformed"]
        ratios = measure_sqnr(model, graph, [sample], divided=divisors(manager.records))
        noise = {s.op.names[0]: s.decibels for s in ratios}
    report = replace(
        build_report(built, graph, manager.records, built.claims, noise), chosen=chosen
    )
    if chosen is not None:
        bits_of = {layer.layer: Bits.parse(layer.bits) for layer in chosen.layers}
        built = built.with_file(BITS, bits_text(bits_of).encode())
    files = built.with_file(REPORT, report.without_times().to_json().encode()).files
    net = compiled(files, stages, report)
    if isinstance(net.session, Session):
        _check_golden(net.session)
    return net


def _check_golden(session: Session) -> None:
    """Run the golden inputs on the new code, against miscompilation and mix-ups."""
    try:
        with translated():
            session.selftest()
    except ArtifactError as e:
        hint = "the compilers or qir are at fault: save nothing, report it with the model"
        raise ArtifactError(e.lines, hint) from e


def imported(
    model: Any,
    inputs: Sequence[Any] | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Any model that `compile` takes, as a graph.

    Errors: FrontendError; DataError for a batch or shapes that are none, or shapes of a torch
    module.
    """
    check_batch(batch)
    check_shapes(shapes)
    if shapes and _is_torch(model):
        raise DataError(
            "shapes: given with a torch module, an ONNX model is needed",
            "the example inputs of a torch module fix its shapes",
        )
    if isinstance(model, Graph):
        return model
    if isinstance(model, (str, Path)) and Path(model).suffix == ".qir":
        return load_graph(model)
    if isinstance(model, (str, Path)) and Path(model).suffix == ".pt2":
        from qir.frontends.torch import import_torch

        return import_torch(model, inputs)
    if type(model).__name__ == "ONNXProgram":  # of torch.onnx.export
        model = model.model_proto
    home = type(model).__module__.split(".")[0]
    if isinstance(model, (str, Path, bytes)) or home == "onnx":
        from qir.frontends.onnx import import_onnx

        return import_onnx(model, batch=batch, shapes=shapes)
    if _is_torch(model):
        from qir.frontends.torch import import_torch

        return import_torch(model, inputs)
    raise FrontendError(
        f"model: a {type(model).__name__} was given, a torch module, an exported program, an ONNX"
        " file, its bytes, a ModelProto or a graph is needed"
    )


def _is_torch(model: Any) -> bool:
    """Whether the model is of a class from torch; torch is not imported to find out."""
    return any(kind.__module__.split(".")[0] == "torch" for kind in type(model).__mro__)


def _name_of(model: Any, graph: Graph) -> str:
    """The name of the program: that of the file, of the module's class, or of the graph."""
    if isinstance(model, (str, Path)):
        return Path(model).stem
    return type(model).__name__ if _is_torch(model) else graph.name
