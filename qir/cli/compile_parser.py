"""The arguments of the commands that compile: compile, compile-lm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qir.cli.syntax import bits, command, kv, positive, shape


def add_compile(commands: Any) -> None:
    p = command(
        commands,
        "compile",
        "compile_model",
        "compile a model to an integer-only program",
        """
        qir compile model.onnx --calibration data.npz -o model.qir
        qir compile model.onnx --calibration folder --target cortex-m4
        qir compile model.onnx --calibration data.npy --bits 4,8 --rounding adaround --state work
        qir compile model.onnx --calibration data.npy --bits mixed --size 0.5
        qir compile model.onnx --calibration data.npy --bits model.qir/bits.toml
        """,
        "compiling",
    )
    p.add_argument("model", type=Path, help="an ONNX file, or a graph in qir's text form (.qir)")
    p.add_argument(
        "--calibration",
        metavar="DATA",
        help="sample inputs: .npy, .npz with an array for each input by its name (file.npz:a,b"
        " selects arrays), or a folder of such files, one batch each",
    )
    p.add_argument("--batch", type=positive, help="value of a free batch size (default: 1)")
    _program(p)
    _quantization(p)
    _depth(p)
    _work(p)


def add_compile_lm(commands: Any) -> None:
    p = command(
        commands,
        "compile-lm",
        "compile_language_model",
        "compile a language model to an integer-only program that reads prompts and writes tokens",
        """
        qir compile-lm FOLDER --calibration ids.npy --max-tokens 512 -o chat.qir
        qir compile-lm model.gguf --calibration ids.npy --max-tokens 512 --kv auto
        qir compile-lm FOLDER --calibration ids.npy --max-tokens 512 --bits w4g32a8 --rounding gptq
        qir compile-lm model.gguf --calibration ids.npy --max-tokens 64 --concurrency 2 --skip 0.25
        """,
        "compiling",
    )
    p.add_argument("model", type=Path, help="the folder of a Hugging Face model, a .gguf file, an"
                   " exported program (.pt2), an ONNX file, or a graph (.qir)")  # fmt: skip
    p.add_argument("--calibration", required=True, metavar="IDS", help="token ids of text like that"
                   " which the model is to read: .npy, .npz, or a folder of them")  # fmt: skip
    p.add_argument("--max-tokens", type=positive, required=True, metavar="N", help="the most tokens"
                   " of a prompt and its continuation")  # fmt: skip
    p.add_argument("--prefill", type=positive, default=64, metavar="N", help="tokens of a prompt"
                   " that are read at once")  # fmt: skip
    _program(p)
    _quantization(p)
    _depth(p)
    p.add_argument("--decode-skip", type=float, metavar="SPEEDUP", help="tokens that are written"
                   " leave out layers, to be so much faster")  # fmt: skip
    _work(p)


def _program(p: Any) -> None:
    p.add_argument("-o", "--output", type=Path, help="folder of the artifact (default: MODEL.qir)")
    p.add_argument("--target", default="cpu", help="a machine that `qir targets` lists")
    p.add_argument(
        "--shape",
        type=shape,
        action="append",
        default=[],
        metavar="INPUT=1,3,224,224",
        help="shape of an input with free sizes; repeat it for further inputs",
    )
    p.add_argument("--name", help="name of the program (default: the file's)")


def _quantization(p: Any) -> None:
    p.add_argument(
        "--bits",
        type=bits,
        default=8,
        help="8; weights,activations as in 4,8; w4g32a8 with a scale for each 32 input channels,"
        " bfp8, bfp6 or bfp4 with an exponent; mixed, within the limits below; or a bits.toml file",
    )
    _mixed(p.add_argument_group("limits of --bits mixed (one or more)"))
    p.add_argument(
        "--rounding",
        metavar="METHOD",
        help="method that rounds the weights: adaround, adaquant, gptq, gpfq, quantease,"
        " adaround-blocks, adaquant-blocks; rescue-groups for scales by group in the few layers"
        " that need them; several, as in rescue-groups,adaround (default: to the nearest)",
    )
    p.add_argument(
        "--waves",
        type=positive,
        help="split the network into this many parts and round them in turn; with 1, all layers"
        " are rounded at once, for many workers (default: one part for each layer)",
    )
    p.add_argument(
        "--observer",
        help="method that chooses the range of an activation: min-max, percentile, mse, entropy"
        " (default: mse; min-max where tokens have scales of their own)",
    )
    p.add_argument("--scales", default="auto", help="scales of the inputs of linear ops: token, one"
                   " for each token at run time; static, from calibration; auto, token where the"
                   " model has attention")  # fmt: skip
    p.add_argument("--outliers", default="auto", help="treatment of channels that reach far beyond"
                   " the others, in models with attention: smoothquant, osplus, rotate, none; auto,"
                   " what helps on the calibration data")  # fmt: skip
    p.add_argument("--kv", type=kv, default=8, metavar="FORMAT", help="keys and values of"
                   " attention: 8 bits; 4, with a step and an offset for each token and head; bfp8,"
                   " bfp6, bfp4, block floating point; auto, what keeps the outputs")  # fmt: skip


def _depth(p: Any) -> None:
    p.add_argument("--concurrency", type=positive, metavar="N", help="layers to run side by side")
    p.add_argument("--skip", type=float, metavar="SHARE", help="sub-layers to leave out, of all")


def _work(p: Any) -> None:
    p.add_argument("--state", type=Path, help="folder for intermediate results: an interrupted"
                   " compile resumes from it")  # fmt: skip
    p.add_argument("--fresh", action="store_true", help="for --latency: forget the kernel times of"
                   " earlier runs and measure again")  # fmt: skip
    p.add_argument("--check", action="store_true", help="check the claim of every pass (slower)")


def _mixed(group: Any) -> None:
    share = "share of the way from the cheapest to the most expensive choice of {}"
    for name, resource in (
        ("size", "bits, in bytes of weights"),
        ("bops", "bits, in bit operations"),
        ("latency", "bits, in measured time"),
    ):
        help_ = share.format(resource)
        group.add_argument(f"--{name}", type=float, metavar="SHARE", help=help_)
    group.add_argument("--size-bytes", type=float, metavar="N", help="bytes of all weights")
    group.add_argument("--latency-us", type=float, metavar="N", help="microseconds of one call")
    group.add_argument("--weight-bits", type=float, metavar="N", help="average over all weights")
    group.add_argument(
        "--activation-bits", type=float, metavar="N", help="average over the layers' inputs"
    )
    group.add_argument(
        "--choices", metavar="A,B", help="bits a layer may have (default: w4a8,w8a8)"
    )
    group.add_argument(
        "--ends",
        metavar="BITS",
        help="bits of the first and last layers; none chooses them too (default: w8a8)",
    )
    group.add_argument(
        "--measure", metavar="NAME", help="sensitivity to minimize (default: hessian)"
    )
