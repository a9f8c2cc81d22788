"""compile: model -> stages of its graph -> artifact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from qir.arguments import check_batch, check_options, outliers_of, scales_of, state_folder
from qir.backends import targets
from qir.backends.artifact import artifact
from qir.backends.artifact.names import BITS, REPORT
from qir.backends.toolchain import service
from qir.backends.toolchain.link import toolchain
from qir.inputs import examples, first_batch
from qir.ir.errors import ArtifactError
from qir.ir.target import Target
from qir.loading import compiled
from qir.models import imported, is_torch, name_of
from qir.net import Net, translated
from qir.passes.bits.choice import Bits, bits_text
from qir.passes.calibrate.observers import Observer
from qir.passes.infra.manager import Manager, Pass
from qir.passes.infra.tasks import Tell, quiet
from qir.passes.rounding import Rounding
from qir.passes.transform.blocks.caches import plan_named
from qir.passes.transform.depth.requests import Concurrency, Shallower, Skip
from qir.quantize import BitsRequest, Quantizer
from qir.report.build import build_report
from qir.runtime import Session
from qir.stages import Stages


def compile(
    model: Any,
    *,
    calibration: Iterable[Any] | None = None,
    target: str | Target = "cpu",
    bits: BitsRequest = 8,
    rounding: Rounding | None = None,
    inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    name: str | None = None,
    observer: str | Observer | None = None,
    scales: str = "auto",
    outliers: str | None = "auto",
    concurrency: int | Concurrency | None = None,
    skip: float | Skip | None = None,
    kv: int | str | None = 8,
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
                  "w4g32a8" with a scale for each 32 input channels; "bfp8", "bfp6" or "bfp4" with
                  an exponent for each 32 (block floating point); "w8a8b32" with an exponent for
                  each 32 activations of a token; "w4a6"; a mapping from layers to widths,
                  or its file; or qir.MixedPrecision(size=0.5), which chooses them for each
                  layer. Inputs and outputs of the network have 8 bits.
    rounding:     rounding of weights: None for the nearest; adaround, adaquant, gptq, gpfq,
                  quantease, adaround-blocks, adaquant-blocks; rescue-groups, which gives scales by
                  group to the few layers that need them; several, as in "rescue-groups,adaround";
                  or passes such as AdaQuant(waves=1).
    inputs:       example inputs of a torch module, in order or by the names of forward's arguments
                  (default: the first calibration sample).
    batch:        value of a free batch size (default: 1, or that of `inputs`); for a torch module,
                  the first axis of its inputs.
    shapes:       shapes of inputs with other free sizes, by input.
    name:         name of the program (default: that of the file, class or graph).
    observer:     estimator of a range: min-max, percentile, mse, entropy (default: mse; min-max
                  where tokens have scales of their own).
    scales:       of the inputs of linear ops: token, one for each token at run time; static, from
                  calibration; auto, token where the model has attention.
    outliers:     treatment of channels that reach far beyond the others, in models with attention:
                  smoothquant, osplus, rotate; auto, what helps on the calibration data; or None.
    concurrency:  2 runs layers of a transformer side by side in groups of two, up to half of them
                  (Concurrency says more): fewer and wider steps, other results.
    skip:         0.25 leaves out a quarter of the sub-layers of a residual network, those that its
                  outputs miss least (Skip says more).
    kv:           how keys and values of attention are stored: 8, in 8 bits of static scales (None
                  too); 4, in 4 bits with a step and an offset for each token and head; bfp8, bfp6
                  or bfp4, in block floating point, 32 channels an exponent; auto, in the fewest
                  bits that move the outputs by at most 0.025 nats of softmax on calibration data.
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
    folder, row_scales, method = state_folder(state), scales_of(scales), outliers_of(outliers)
    shallower, caches = Shallower.of(skip, concurrency), plan_named(kv)
    quantizer = Quantizer(
        bits, observer, rounding, machine, folder, executor, tell, row_scales, method
    )
    first, batches = first_batch(calibration)
    if is_torch(model):
        inputs = examples(model, inputs, first, batch)
    graph = imported(model, inputs, batch, shapes)
    manager = Manager(check=check, watch=lambda step, i, of: tell(f"pass {step}", i, of))
    stages = Stages(graph, batches, quantizer, manager, caches, shallower)
    stages.run(passes)
    return _build(name or name_of(model, graph), machine, stages, tell)


def _build(name: str, machine: Target, stages: Stages, tell: Tell) -> Net:
    """The artifact of the integer graph, with its report and the choice of its bits."""
    graph, records, chosen_bits = stages.newest, stages.manager.records, stages.chosen_bits
    tell("kernels", 0, 1)
    output = artifact.build(graph, machine, name)
    tell("kernels", 1, 1)
    report = build_report(output, graph, records, output.intermediates, stages.noise())
    report = replace(report, **stages.outcomes())
    if chosen_bits is not None:
        bits_of = {layer.layer: Bits.parse(layer.bits) for layer in chosen_bits.layers}
        output = output.with_file(BITS, bits_text(bits_of).encode())
    files = output.with_file(REPORT, report.without_times().to_json().encode()).files
    net = compiled(files, stages.graphs, report)
    if isinstance(net.session, Session):
        check_golden(net.session)
    return net


def check_golden(session: Session) -> None:
    """Run the golden inputs on the new code, against miscompilation and mix-ups."""
    try:
        with translated():
            session.selftest()
    except ArtifactError as e:
        hint = "the compilers or qir are at fault: save nothing, report it with the model"
        raise ArtifactError(e.lines, hint) from e
