"""The counter of machine code, on lines written by hand whose count is known."""

from __future__ import annotations

import kernel_sass as sass
import kernel_sass_integers as integers
import kernel_sass_registers as kinds
import pytest
import torch

from antcache.errors import BadConfig


def counted(text, constants=None, **given):
    """Walk lines of SASS; an address is 16 x the line's number, {name} that of the line `name:`."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    places = {}
    for number, line in enumerate(lines):
        if ":" in line:
            name, lines[number] = (part.strip() for part in line.split(":"))
            places[name] = f"{16 * number:#x}"
    code = "\n".join(
        f"        /*{16 * number:04x}*/  {line.format(**places)} ;  /* 0x00000a00ff017b82 */"
        for number, line in enumerate(lines)
    )
    return sass.walk(sass.parse(code), constants=constants or {}, **given)


LOOP = """
    MOV R1, RZ
    top: IADD3 R1, R1, 0x400, RZ
    FADD R5, R5, R6
    ISETP.GE.AND P0, PT, R1, c[0x0][0x218], PT
    @!P0 BRA {top}
    EXIT
"""


@pytest.mark.parametrize(("columns", "times"), [(1, 1), (1024, 1), (1025, 2), (4096, 4)])
def test_a_loop_counts_as_often_as_its_argument_makes_it_run(columns, times):
    done = counted(LOOP, {0x218: columns})
    assert done.instructions == 2 + 4 * times
    assert done.issued["FADD"] == times


def test_loops_in_loops_multiply():
    done = counted("""
        MOV R2, 0x3
        outer: MOV R1, 0x5
        inner: IADD3 R1, R1, -0x1, RZ
        ISETP.NE.AND P1, PT, R1, RZ, PT
        @P1 BRA {inner}
        UIADD3 UR4, UR4, 0x1, URZ
        IADD3 R2, R2, -0x1, RZ
        ISETP.GT.AND P1, PT, R2, RZ, PT
        @P1 BRA {outer}
        EXIT
    """)
    assert done.instructions == 1 + 3 * (1 + 5 * 3 + 4) + 1


def test_a_loop_whose_end_data_decides_is_refused():
    with pytest.raises(BadConfig, match="data decides where a loop ends"):
        counted("""
            top: LDG.E R1, desc[UR4][R2.64]
            ISETP.NE.AND P0, PT, R1, RZ, PT
            @P0 BRA {top}
            EXIT
        """)


def test_a_guard_that_fails_is_issued_all_the_same_and_moves_nothing():
    text = """
        S2R R0, SR_TID.X
        ISETP.LT.AND P0, PT, R0, c[0x0][0x218], PT
        IMAD.WIDE R2, R0, 0x4, RZ
        @P0 LDG.E R4, desc[UR4][R2.64]
        @P0 STG.E.U16 desc[UR4][R2.64], R4
        EXIT
    """
    done = counted(text, {0x218: 40}, threads=64)
    assert (done.instructions, done.loaded, done.stored) == (6, 160, 80)
    done = counted(text, {0x218: 0}, threads=64)
    assert (done.instructions, done.loaded, done.stored) == (6, 0, 0)


def test_places_that_data_decides_are_counted_by_example_and_said():
    """Threads that were given the same class read the same place, others another."""
    gather = """
        S2R R0, SR_TID.X
        SHF.R.U32.HI R0, RZ, 0x1, R0
        IMAD.WIDE R2, R0, 0x8, RZ
        LDG.E.64 R4, desc[UR4][R2.64]
        IMAD.WIDE R6, R4, 0x4, RZ
        LDG.E R8, desc[UR4][R6.64]
        EXIT
    """
    done = counted(gather, threads=64)
    assert done.by_example
    assert done.loaded == 32 * 8 + 32 * 4


def test_threads_that_read_the_same_place_count_once():
    done = counted(
        """
        MOV R2, c[0x0][0x210]
        LDG.E.64 R4, desc[UR4][R2.64]
        EXIT
    """,
        {0x210: 0},
        threads=256,
    )
    assert done.loaded == 8
    assert not done.by_example


def test_a_branch_around_is_counted_unless_it_is_known_to_be_taken():
    """What data may skip counts; what the arguments skip does not."""
    text = """
        {test}
        @P0 BRA {{end}}
        FADD R1, R1, R2
        FADD R1, R1, R2
        end: EXIT
    """
    assert counted(text.format(test="FSETP.GT.AND P0, PT, R8, R9, PT")).instructions == 5
    by_argument = text.format(test="ISETP.EQ.AND P0, PT, RZ, c[0x0][0x218], PT")
    assert counted(by_argument, {0x218: 0}).instructions == 3
    assert counted(by_argument, {0x218: 1}).instructions == 5


def test_of_two_ways_the_longer_counts():
    short_first = """
        FSETP.GT.AND P0, PT, R8, R9, PT
        @P0 BRA {other}
        FADD R1, R1, R2
        EXIT
        other: FADD R1, R1, R2
        FADD R1, R1, R2
        FADD R1, R1, R2
        EXIT
    """
    assert counted(short_first).instructions == 6


def test_a_slow_path_for_rare_values_is_not_taken():
    done = counted("""
        FCHK P0, R1, R2
        @!P0 BRA {fine}
        MOV R4, {fine}
        CALL.REL.NOINC {slow}
        fine: FADD R1, R1, R2
        EXIT
        slow: FADD R1, R1, R2
        FADD R1, R1, R2
        RET.REL.NODEC R4 0x0
    """)
    assert done.instructions == 4


def test_a_subroutine_that_is_always_called_counts():
    done = counted("""
        MOV R4, {back}
        CALL.REL.NOINC {often}
        back: EXIT
        often: FADD R1, R1, R2
        RET.REL.NODEC R4 0x0
    """)
    assert done.instructions == 5


TICKET = """
    STG.E desc[UR4][R2.64], R9
    BAR.SYNC.DEFER_BLOCKING 0x0
    @!P1 ATOMG.E.ADD.STRONG.GPU PT, R3, desc[UR4][R2.64], R5
    ISETP.NE.AND P0, PT, R3, R6, PT
    @P0 EXIT
    MOV R1, RZ
    top: IADD3 R1, R1, 0x1000, RZ
    LDG.E R7, desc[UR4][R2.64]
    ISETP.GE.AND P0, PT, R1, c[0x0][0x218], PT
    @!P0 BRA {top}
    EXIT
"""


WAIT = """
    wait: ATOMG.E.ADD.STRONG.GPU PT, R3, desc[UR4][R2.64], RZ
    ISETP.GE.AND P1, PT, R3, R6, PT
    @!P1 BRA {wait}
"""


def test_a_program_that_waits_for_another_is_let_go_at_once_and_has_no_ticket_yet():
    either = """
        LDG.E R7, desc[UR4][R2.64]
        ISETP.GE.AND P0, PT, R7, R8, PT
        @P0 BRA {short}
        FADD R5, R5, R6
        short: EXIT
    """
    assert counted(either).instructions == 5
    assert counted(WAIT.rstrip() + either).instructions == 3 + 5


def test_the_final_sum_behind_the_ticket_is_the_last_programs_alone():
    assert counted(TICKET, {0x218: 16384}).instructions == 5
    assert counted(TICKET, {0x218: 16384}, last=True).instructions == 6 + 4 * 4 + 1


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("IADD3 R1, R2, -R3, 0x5", 100 - 7 + 5),
        ("IMAD R1, R2, R3, R2", 800),
        ("IMAD.MOV.U32 R1, RZ, RZ, R3", 7),
        ("IMAD.SHL.U32 R1, R2, 0x4, RZ", 400),
        ("IMAD.HI.U32 R1, R4, R3, RZ", 6),
        ("IMAD.HI R1, R4, R3, RZ", 0xFFFFFFFF),
        ("IMAD.HI.U32 R1, R4, R4, R3", 0xFFFFFFFD),  # R3 and R4 are added
        ("IMAD.HI.U32 R1, R2, 0x28f5c29, RZ", 1),  # 100 / 100
        ("LEA R1, R3, R2, 0x2", 128),
        ("LEA.HI R1, R4, R2, RZ, 0xa", 1123),
        ("LEA.HI R1, R4, R2, R3, 0xa", (7 << 10) + 1123),
        ("LEA.HI.X R1, R4, R2, RZ, 0xa, P0", None),
        ("SHF.R.S32.HI R1, RZ, 0x1, R4", 0xFFFFFFFF),
        ("SHF.R.U32.HI R1, RZ, 0x1c, R4", 0xF),
        ("SHF.L.U32 R1, R3, 0x3, RZ", 56),
        ("LOP3.LUT R1, R2, 0xf, R3, 0xea, !PT", (100 & 15) | 7),
        ("LOP3.LUT R1, R2, R3, RZ, 0x3c, !PT", 100 ^ 7),
        ("VIMNMX R1, R4, R3, PT", 0xFFFFFFFF),
        ("VIMNMX.U32 R1, R4, R3, PT", 7),
        ("VIADDMNMX R1, R2, -0x1, R3, PT", 7),
        ("VIADDMNMX R1, R2, -0x1, R3, !PT", 99),
        ("SHF.R.U32 R1, R2, 0x2, RZ", 25),
        ("SGXT.U32 R1, R2, 0x4", 4),
        ("SGXT R1, R4, 0x4", 0xFFFFFFFF),
        ("SEL R1, R2, R3, !PT", 7),
        ("HFMA2.MMA R1, -RZ, RZ, 1.875, 0", 0x3F800000),
        ("HFMA2 R1, -RZ, RZ, 0, 2.98023223876953125e-07", 5),
        ("ULEA UR1, UR9, 0x5, 0x2", 5),
        ("CS2R R0, SRZ", 0),
        ("FADD R1, R2, R3", None),
        ("LDG.E.64 R0, desc[UR4][R2.64]", None),
    ],
)
def test_what_integer_instructions_compute(line, value):
    registers = kinds.Registers({}, {})
    registers.write("R2", 100, 7, 0xFFFFFFFF)
    opcode, rest = line.split(maxsplit=1)
    integers.execute(registers, "PT", opcode, tuple(each.strip() for each in rest.split(",")))
    assert registers.read("UR1" if "UR1" in line else "R1") == value


@pytest.mark.parametrize(
    ("high", "low", "other", "expected"),
    [
        (0, 5, 0, (0, 5)),  # what is subtracted is 0: its complement and 1 carry
        (0, 5, 7, (0xFFFFFFFF, 0xFFFFFFFE)),
        (3, 5, 7, (2, 0xFFFFFFFE)),
        (3, 7, 5, (3, 2)),
    ],
)
def test_subtractions_of_64_bits_carry(high, low, other, expected):
    registers = kinds.Registers({}, {})
    registers.write("R2", low, high, other)
    integers.execute(registers, "PT", "IADD3", ("R6", "P2", "R2", "-R4", "RZ"))
    integers.execute(registers, "PT", "IADD3.X", ("R7", "R3", "~RZ", "RZ", "P2", "!PT"))
    assert (registers.read("R7"), registers.read("R6")) == expected


def test_programs_are_counted_by_rows_of_three_segments():
    """A division by a number that is no power of two is a product's high word."""
    done = counted(
        """
        S2R R1, SR_CTAID.X
        IMAD.HI.U32 R2, R1, 0x55555556, RZ
        top: IADD3 R2, R2, -0x1, RZ
        ISETP.GE.AND P0, PT, R2, RZ, PT
        @P0 BRA {top}
        EXIT
        """,
        block=8,
    )
    assert done.instructions == 2 + 3 * (8 // 3 + 1) + 1


def test_a_sum_of_three_may_carry_twice():
    registers = kinds.Registers({}, {})
    registers.write("R2", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    integers.execute(registers, "PT", "IADD3", ("R6", "P2", "P3", "R2", "R3", "R4"))
    integers.execute(registers, "PT", "IADD3.X", ("R7", "RZ", "RZ", "RZ", "P2", "P3"))
    assert (registers.read("R7"), registers.read("R6")) == (2, 0xFFFFFFFD)


def test_predicates_in_the_bits_of_a_register_are_known_one_by_one():
    """So the compiler keeps masks: one that data decides hides none of the others."""
    registers = kinds.Registers({}, {})
    lanes = torch.arange(4) < 3
    registers.write("P0", lanes)
    registers.write("P1", None)
    for guard, *operands in (
        ("P0", "R8", "R8", "0x100", "RZ", "0xfc", "!PT"),
        ("P1", "R8", "R8", "0x10", "RZ", "0xfc", "!PT"),
        ("PT", "P2", "RZ", "R8", "0x100", "RZ", "0xc0", "!PT"),
        ("PT", "P3", "RZ", "R8", "0x10", "RZ", "0xc0", "!PT"),
    ):
        integers.execute(registers, guard, "LOP3.LUT", tuple(operands))
    assert registers.predicate("P2").equal(lanes)
    assert registers.predicate("P3") is None
