"""Machine code as text: the instructions of every function of an ELF file, by llvm-objdump."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from qir.ir.errors import LowerError
from qir.ir.target import Target

OLDEST, NEWEST = 16, 40
"""Releases of LLVM that are looked for; older ones don't know Hexagon v73."""

SECONDS = 120

UNKNOWN = "<unknown>"
"""What stands for bytes that are no instruction."""


@dataclass(frozen=True)
class Instruction:
    """One instruction. `packet`: where the group that runs at once starts; elsewhere `address`.

    `name` is the mnemonic; of Hexagon, which has none, the operation's name (see `hexagon_name`).
    """

    address: int
    name: str
    text: str
    packet: int


@dataclass(frozen=True)
class Function:
    """The instructions of one symbol, and the symbols or sections that they refer to.

    `data_bytes`: constants among the code, which ARM's compilers put behind functions. What fills
    the room up to the next function belongs to none.
    """

    name: str
    section: str
    instructions: tuple[Instruction, ...]
    references: frozenset[str]
    data_bytes: int = 0


@dataclass
class _Open:
    """A function while its lines are read; `end`: the first address behind it, if that is known."""

    name: str
    section: str
    end: int | None
    instructions: list[Instruction] = field(default_factory=list)
    references: set[str] = field(default_factory=set)
    data_bytes: int = 0
    packet: int = 0
    is_inside: bool = False

    def holds(self, address: int) -> bool:
        return self.end is None or address < self.end

    def closed(self) -> Function:
        return Function(
            self.name, self.section, tuple(self.instructions), frozenset(self.references),
            self.data_bytes,
        )  # fmt: skip


@cache
def tool() -> str:
    """The newest llvm-objdump of this machine.

    Errors: LowerError when there is none, or only older ones.
    """
    for release in range(NEWEST, OLDEST - 1, -1):
        if path := shutil.which(f"llvm-objdump-{release}"):
            return path
    plain = shutil.which("llvm-objdump")
    if plain and _release(plain) >= OLDEST:
        return plain
    raise LowerError(
        f"machine code: no disassembler found, llvm-objdump {OLDEST} or newer is needed",
        "apt-get install llvm-22, or llvm-19",
    )


def _release(command: str) -> int:
    text = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)", text)
    return int(match.group(1)) if match else 0


def functions(content: bytes, target: Target) -> tuple[Function, ...]:
    """All functions of an object, library or executable, in the order of their addresses.

    Errors: LowerError without llvm-objdump, or when it cannot read the bytes.
    """
    options = ("-d", "--no-show-raw-insn", *_options(target))
    return tuple(_parsed(_listing(content, *options), target.architecture == "hexagon"))


def data_references(content: bytes) -> dict[str, frozenset[str]]:
    """The references of an object's data: names by section, and by each symbol in a section.

    Errors: LowerError without llvm-objdump, or when it cannot read the bytes.
    """
    section, names_of, places = "", dict[str, set[str]](), dict[str, str]()
    for line in _listing(content).splitlines():
        if m := _RECORDS.fullmatch(line):
            section = m[1]
        elif m := _RECORD.fullmatch(line):
            names_of.setdefault(section, set()).add(_plain(m[1]))
        elif m := _PLACED.fullmatch(line):
            places[m[2]] = m[1]
    sections = {s: frozenset(names) for s, names in names_of.items() if not _CODE.match(s)}
    return sections | {name: sections[s] for name, s in places.items() if s in sections}


def _plain(name: str) -> str:
    """A relocation's symbol without its offset."""
    return re.sub(r"[-+]0x[0-9a-f]+$", "", name)


def _listing(content: bytes, *options: str) -> str:
    with tempfile.NamedTemporaryFile(prefix="qir-", suffix=".o") as file:
        Path(file.name).write_bytes(content)
        command = [tool(), "-t", "-r", *options, file.name]
        try:
            process = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=SECONDS
            )
        except subprocess.TimeoutExpired as e:
            raise LowerError(f"machine code: {tool()} ran over {SECONDS} s") from e
    if process.returncode != 0:
        message = process.stderr.strip().splitlines()[-1:] or ["silent"]
        raise LowerError(f"machine code: {tool()} ended with {process.returncode} ({message[0]})")
    return process.stdout


def _options(target: Target) -> list[str]:
    """Options of the disassembler that the file does not contain."""
    if target.architecture == "aarch64":
        return ["--mattr=+all"]
    if not target.features or target.architecture == "x86_64":
        return []
    features = ",".join(f"+{f}" for f in target.features)
    cpu = [] if target.cpu.startswith("generic") else [f"--mcpu={target.cpu}"]
    return [*cpu, f"--mattr={features}"]


_CODE = re.compile(r"\.text|\.debug|\.eh_frame|\.ARM\.|\.llvm")
_RECORDS = re.compile(r"RELOCATION RECORDS FOR \[(.+)\]:")
_RECORD = re.compile(r"[0-9a-f]+\s+R_\w+\s+(\S+)")
_PLACED = re.compile(r"[0-9a-f]+ .{7} (\S+)\t[0-9a-f]+ (?:\.hidden )?(\S+)")
_SIZE = re.compile(r"([0-9a-f]+) .{5} F (\S+)\t([0-9a-f]+) (?:\.hidden )?(\S+)")
_SECTION = re.compile(r"Disassembly of section (\S+):")
_SYMBOL = re.compile(r"([0-9a-f]+) <(.+)>:")
_LINE = re.compile(r"\s*([0-9a-f]+):\s(.*)")
_RELOCATION = re.compile(r"\s+[0-9a-f]+:\s+R_\w+\s+(\S+)")
_PLACE = re.compile(r"<([^<>]+?)(?:\+0x[0-9a-f]+)?>")
_LABEL = re.compile(r"[.$]L|\.L|\$")
_BYTES = re.compile(r"((?:[0-9a-f]{2} )+)\s*\t?\.\w+\t.*")


def _parsed(listing: str, is_hexagon: bool) -> Iterator[Function]:
    add = _add_packet if is_hexagon else _add
    section, current, sizes = "", None, {}
    for line in listing.splitlines():
        if m := _SECTION.match(line):
            section = m[1]
        elif m := _SIZE.fullmatch(line):
            sizes[m[2], m[4]] = int(m[3], 16)
        elif (m := _SYMBOL.fullmatch(line)) and not _LABEL.match(m[2]):
            if current is not None:
                yield current.closed()
            size = sizes.get((section, m[2]))
            current = _Open(m[2], section, int(m[1], 16) + size if size else None)
        elif current is None:
            continue
        elif m := _RELOCATION.fullmatch(line):
            current.references.add(_plain(m[1]))
        elif (m := _LINE.fullmatch(line)) and current.holds(int(m[1], 16)):
            add(current, int(m[1], 16), m[2])
    if current is not None:
        yield current.closed()


def _add(to: _Open, address: int, line: str) -> None:
    """One line of a machine that has mnemonics."""
    if data := _BYTES.fullmatch(line.strip()):
        to.data_bytes += len(data[1].split())
        return
    text = re.sub(r"\s+(//|#|@) .*$", "", line).strip()
    text = re.sub(r"^\{\w+\}\s+", "", text)  # which encoding of x86 it is
    name = text.partition("\t")[0].strip()
    to.references.update(_PLACE.findall(text.replace(UNKNOWN, "")))
    to.instructions.append(Instruction(address, name, text.expandtabs(1), address))


def _add_packet(to: _Open, address: int, line: str) -> None:
    """One line of Hexagon's: a word of a packet, with one instruction or two."""
    if "{" in line or not to.is_inside:
        to.packet, to.is_inside = address, True
    to.references.update(_PLACE.findall(line.replace(UNKNOWN, "")))
    for part in re.sub(r"[{}]|:endloop\w+|:mem_noshuf", "", line).split(";"):
        text = " ".join(part.split())
        if text and not text.startswith("immext"):  # a longer constant of its neighbour
            to.instructions.append(Instruction(address, hexagon_name(text), text, to.packet))
    if "}" in line:
        to.is_inside = False


def hexagon_name(text: str) -> str:
    """The names in front of brackets, else the last word: `v1.w += vrmpy(...)` is vrmpy."""
    if text.startswith("<"):
        return UNKNOWN
    if names := re.findall(r"([A-Za-z][\w.]*)\(", text):
        return "+".join(names)
    body = re.sub(r"^if \(.*?\) ?", "", text)
    return "=" if "=" in body else body.split()[0].partition(":")[0]
