"""The compiled code of tiles: their product loops have multiply-adds and loads, and nothing else.

Every stub of csrc/isa that a compiler here can target is compiled with setup.py's flags and
disassembled with objdump. A tile of R rows, P panels and G gates must have a loop of R*P*G
full-width multiply-adds per step of k (times the unrolling), with as many broadcasts as rows and as
many loads as vectors of weights. No vector register may be copied to the stack or to another
register. The generic set has no fused multiply-add and one register too few, so only its operations
are counted.

In a stub of narrow weights a vector has the numbers of two steps of k, so loads may be half as
many; those of int8 have dot products in place of multiply-adds, and without dot products only
their tiles are listed. Tiles of narrow weights take more registers: they may have copies, and a
vector goes to the stack or comes from it for every third product at most (with gcc; clang keeps
more there).
"""

import os
import platform
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from c_flags import ROOT, c_flags

pytestmark = [pytest.mark.no_kernels, pytest.mark.slow]

STUBS = sorted(path.stem for path in ROOT.glob("csrc/isa/*.c"))
GATES = {"gemm": 1, "blocks": 1, "rnn_tanh": 1, "rnn_relu": 1, "lstm": 4}
GATES |= {"gru_after": 3, "gru_reset": 2, "gru_blend": 1, "chains": 1}
NARROW = GATES.keys() - {"blocks"}  # the tiles that read packed weights
TILE = re.compile(r"(\w+?)_(\d)_by_(\d)")
X86 = ("x86_64", "AMD64")
ON_STACK, COPIES = "vectors to or from the stack", "copies of registers"
ARM = ("aarch64", "arm64")


@dataclass(frozen=True)
class Set:
    """Patterns for the instructions of a set, as objdump writes them."""

    machines: tuple[str, ...]
    product: str  # a multiply-add of full width, or the multiplication of one
    never: dict[str, str]  # instructions that must not be in a product loop
    per_product: str = ""  # there must be as many as products
    broadcast: str = ""  # there must be as many as rows
    load: str = ""  # loads of a vector, also within others: there must be as many as weight vectors
    division: str = "v?divp[sd] |fdiv v"  # marks a loop over activations


def x86(register):
    """A set with three-operand instructions, of which one may be in memory."""
    memory = r"[^,]*\((?!%rsp|%rip)%[^)]*\)"
    return Set(
        X86,
        product=rf"vfn?m\w+p[sd] .*%{register}",
        broadcast=rf"vbroadcasts[sd] {memory},%{register}|v\w+ {memory}\{{1to\d+\}}",
        load=rf"v(?!broadcast)\w+ {memory},%{register}",
        never={
            ON_STACK: r"(?=.*%[xyz]mm).*\(%(rsp|FRAME)[,)]",
            COPIES: r"vmov\w+ %[xyz]mm\d+,%[xyz]mm\d+$",
        },
    )


SETS = {
    "avx2": x86("ymm"),
    "avx512": x86("zmm"),
    "neon": Set(
        ARM,
        product=r"fml[as] v\d+\.(4s|2d)",
        never={
            ON_STACK: r"\w+ [qdsv]\d+.*\[(sp|x29)",
            COPIES: r"(mov|orr) v\d+\.16b, v\d+",
        },
    ),
    "generic": Set(
        X86,
        product=r"mulp[sd] .*%xmm",
        never={"single lanes": r"(mul|add)s[sd] "},
        per_product=r"addp[sd] .*%xmm",
    ),
}


def native_compiler():
    found = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    found = found.split()[0]
    return found if shutil.which(found) else "cc"


def newest_clang():
    """The name of a clang, or None. Version 16 keeps register arrays in memory, 19 does not."""
    for name in (*(f"clang-{n}" for n in range(30, 18, -1)), "clang"):
        if shutil.which(name):
            text = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"version (\d+)", text)
            if version and int(version[1]) >= 19:
                return name
    return None


def tools(family, isa):
    """The command of a compiler family for a set's machine, and objdump; None if one is missing."""
    native = platform.machine() in SETS[isa].machines
    if not native and SETS[isa].machines != ARM:
        return None
    if family == "cc":
        command = [native_compiler() if native else "aarch64-linux-gnu-gcc"]
    else:
        command = [newest_clang() or "clang-19"] + (
            [] if native else ["--target=aarch64-linux-gnu"]
        )
    objdump = "objdump" if native else "aarch64-linux-gnu-objdump"
    return (command, objdump) if shutil.which(command[0]) and shutil.which(objdump) else None


# ---- reading a function ------------------------------------------------------------------------


def disassemble(command, objdump, source, target):
    """{function: [(address, instruction)]}, with the parts that a compiler split off."""
    build = [*command, *c_flags(), "-c", source, "-o", target]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    dump = [objdump, "-d", "--no-show-raw-insn", target]
    text = subprocess.run(dump, check=True, capture_output=True, text=True)
    functions = {}
    for block in text.stdout.split("\n\n"):
        head = re.search(r"^[0-9a-f]+ <([\w.]+)>:\n", block, re.M)
        if head:
            code = functions.setdefault(head[1].split(".")[0], [])
            for address, words in re.findall(r"^ *([0-9a-f]+):\t(.*)$", block, re.M):
                code.append((int(address, 16), " ".join(words.split())))
    return functions


JUMP = re.compile(
    r"(?P<always>jmp|b|bra) (?P<there>[0-9a-f]+)|(?P<ends>ret|ud2|br |brk|jmp \*)"
    r"|(j\w+|b\.\w+|cbn?z|tbn?z) .*?(?P<maybe>\b[0-9a-f]+) <"
)


def successors(code):
    """For the index of each instruction the indices of those that may follow."""
    places = {address: place for place, (address, _) in enumerate(code)}
    result = []
    for place, (_, words) in enumerate(code):
        following = [place + 1] if place + 1 < len(code) else []
        jump = JUMP.match(words)
        if jump and jump["ends"]:
            following = []
        elif jump and jump["always"]:
            following = [places[int(jump["there"], 16)]]
        elif jump:
            following.append(places[int(jump["maybe"], 16)])
        result.append(following)
    return result


def cycles(places, edges):
    """The strongly connected parts of a graph that have an edge (Kosaraju's two searches)."""
    forward, back = {p: [] for p in places}, {p: [] for p in places}
    for source, target in edges:
        forward[source].append(target)
        back[target].append(source)

    def search(start, graph, seen):
        """The indices reached from start, the deepest first."""
        seen.add(start)
        stack, order = [(start, iter(graph[start]))], []
        while stack:
            place, following = stack[-1]
            new = next((target for target in following if target not in seen), None)
            if new is None:
                order.append(place)
                stack.pop()
            else:
                seen.add(new)
                stack.append((new, iter(graph[new])))
        return order

    order, seen = [], set()
    for place in places:
        if place not in seen:
            order += search(place, forward, seen)
    seen = set()
    parts = [set(search(place, back, seen)) for place in reversed(order) if place not in seen]
    alone = {source for source, target in edges if source == target}
    return [part for part in parts if len(part) > 1 or part <= alone]


def innermost_loops(code):
    """Loops that contain no other, as lists of instructions.

    A jump back alone is no loop: compilers put rare paths at the end of a function and jump back
    from there. A loop may have several entries, for example after unrolling.
    """
    edges = [(place, to) for place, following in enumerate(successors(code)) for to in following]
    waiting, inner = cycles(range(len(code)), edges), []
    while waiting:
        loop = waiting.pop()
        entries = {t for s, t in edges if t in loop and s not in loop} or {min(loop)}
        within = [(s, t) for s, t in edges if s in loop and t in loop and t not in entries]
        nested = cycles(sorted(loop), within)
        waiting += nested
        if not nested:
            inner.append([code[place][1] for place in sorted(loop)])
    return inner


def look_of(stub):
    """The patterns for a stub's instructions."""
    look = SETS[stub.split("_")[0]]
    if stub.endswith("_vnni"):
        register = "zmm" if stub.startswith("avx512") else "ymm"
        look = replace(look, product=rf"(\{{vex\}} )?vpdpbusd .*%{register}", broadcast="", load="")
    if stub.endswith("_dotprod"):
        look = replace(look, product=r"sdot v\d+\.4s")
    if stub.endswith("_pairs"):
        look = replace(look, product=r"vdpbf16ps .*%zmm", broadcast="", load="")
    return look


def is_narrow(stub):
    return not re.search("_f(32|64)$", stub)


def tiles_of(stub):
    """The kinds of tiles that a stub must have. Where tiles share an epilogue (gemm.h: COMPACT),
    those of tanh serve relu too."""
    kinds = NARROW if is_narrow(stub) else GATES.keys()
    return kinds - {"rnn_relu"} if is_narrow(stub) or stub.startswith("generic") else kinds


def faults_of(name, code, family, stub, widest):
    """The faults of a tile's product loops, in words.

    There may be two loops: one for several steps of k at a time, one for the remaining steps.
    """
    kind, panels, rows = TILE.fullmatch(name).groups()
    rows, vectors = int(rows), int(panels) * GATES[kind]
    look = look_of(stub)
    # A frame pointer, if a function has one, addresses the stack too.
    frame = "rbp" if any(words == "mov %rsp,%rbp" for _, words in code) else "rsp"
    found, faults = 0, []
    for loop in innermost_loops(code):

        def count(pattern, loop=loop):
            return sum(bool(re.match(pattern.replace("FRAME", frame), words)) for words in loop)

        products = count(look.product)
        if products < rows * vectors or count(look.division):
            continue
        found += 1
        steps, rest = divmod(products, rows * vectors)
        want = {f"products beside {steps} whole steps": (rest, 0)}
        never = {what: count(pattern) for what, pattern in look.never.items()}
        if is_narrow(stub):
            never.pop(COPIES, None)
            if family == "clang" or never.get(ON_STACK, 0) * 3 <= products:
                never.pop(ON_STACK, None)
        want |= {what: (times, 0) for what, times in never.items()}
        if look.per_product:
            want[look.per_product] = (count(look.per_product), products)
        if look.broadcast and widest:
            want["broadcasts"] = (count(look.broadcast), steps * rows)
            loads, most = count(look.load), steps * vectors
            # A vector of bfloat16 holds two steps of k, for which it is loaded once or twice.
            several = is_narrow(stub) and most <= 2 * loads and loads <= most
            want["vector loads"] = (loads, loads if several else most)
        faults += [
            f"{name}, a loop of {len(loop)} instructions: {got} {what}, not {right}"
            for what, (got, right) in want.items()
            if got != right
        ]
    return faults if found else [f"{name} has no product loop"]


def judge(family, stub, folder):
    """The tiles of a stub, and all their faults; None if the stub cannot be compiled here."""
    isa = stub.split("_")[0]
    found = tools(family, isa)
    if found is None:
        return None
    source, target = Path("csrc", "isa", f"{stub}.c"), folder / f"{family}_{stub}.o"
    try:
        functions = disassemble(*found, source, target)
    except subprocess.CalledProcessError as error:
        return [], [error.stderr.decode()]
    tiles = {name: TILE.fullmatch(name) for name in functions if TILE.fullmatch(name)}
    unknown = {m[1] for m in tiles.values()} - tiles_of(stub)
    if unknown:
        return [], [f"GATES does not have the tiles of {', '.join(sorted(unknown))}"]
    kinds = {m[1] for m in tiles.values()}
    widest = {kind: max((m[3], m[2]) for m in tiles.values() if m[1] == kind) for kind in kinds}
    faults = []
    if stub.endswith(
        "_int8"
    ):  # without dot products: small tiles, for machines that have no better
        return sorted(tiles), faults
    for name, m in tiles.items():
        faults += faults_of(name, functions[name], family, stub, widest[m[1]] == (m[3], m[2]))
    return sorted(tiles), faults


@pytest.mark.parametrize("stub", STUBS)
@pytest.mark.parametrize("family", ["cc", "clang"])
def test_product_loops_are_products_and_loads(family, stub, tmp_path):
    verdict = judge(family, stub, tmp_path)
    if verdict is None:
        pytest.skip(f"no {family} and objdump here for {stub}")
    tiles, faults = verdict
    assert not faults, "\n".join(faults)
    assert {TILE.fullmatch(name)[1] for name in tiles} == set(tiles_of(stub))
