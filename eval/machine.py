"""What the processor can do for int8."""

from __future__ import annotations

from pathlib import Path

#: Flags of processors that multiply bytes and add up in 32 bits at once, as Linux names them (x86, then ARM).
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_CPU_INFO = Path("/proc/cpuinfo")


def int8_instructions(cpu_info: Path = _CPU_INFO) -> tuple[str, ...]:
    """The int8 dot products that this processor has; none where it can't be read."""
    try:
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return tuple(flag for flag in _DOT_PRODUCTS if flag in flags)


def say_int8(instructions: tuple[str, ...]) -> str:
    """One sentence for a table: what int8 figures of this machine mean."""
    if instructions:
        return f"int8 dot products: {', '.join(instructions)}."
    return (
        "No VNNI (or other int8 dot product) on this processor: onnxruntime emulates it with 16-bit sums, which is"
        " slower and can saturate. INT8 figures of this machine say little about one that has it."
    )
