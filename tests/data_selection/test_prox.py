"""ProX: programs against a naive oracle, its guard rails by hand, and programs that no one should write."""

import random
import time

import pytest

from data_common.messages.errors import UserError
from data_selection.prox import rules
from data_selection.prox.method import rewrite
from data_selection.prox.programs import LONGEST_CALL, execute, parse

LINES = [f"line {number} has enough words in it to stay by itself, and some more of them" for number in range(8)]
TEXT = "\n".join(LINES)


def refined(chunk_program, text=TEXT, doc_program=None, **keys):
    fields = {"doc_program_field": "d", "chunk_program_field": "c"}
    return rewrite(text, doc_program, chunk_program, programs="fields", **fields, **keys)


def naive(text, replaced, removed):
    """Lines one by one, each looked up in every interval."""
    for source, target in replaced:
        text = target.join(text.split(source))
    return "\n".join(
        line for number, line in enumerate(text.split("\n")) if not any(a <= number <= b for a, b in removed)
    )


def test_random_programs_do_what_a_naive_reading_of_them_does():
    draw = random.Random(3)
    for _ in range(300):
        text = "\n".join("".join(draw.choice("ab c,=()") for _ in range(draw.randrange(9))) for _ in range(6))
        removed = [sorted(draw.randrange(6) for _ in range(2)) for _ in range(draw.randrange(4))]
        replaced = [
            (draw.choice(["a", "b c", "=", "),"]), draw.choice(["", "x)", "a,b=c"])) for _ in range(draw.randrange(3))
        ]
        calls = [f"remove_lines({a}, end={b})" for a, b in removed] + [
            f"normalize(target={target!r}, source={source!r})" for source, target in replaced
        ]
        draw.shuffle(calls)
        in_order = [pair for call in calls for pair in replaced if repr(pair[0]) in call and repr(pair[1]) in call]
        program = parse("\n".join(calls), 6)
        assert program.errors == 0
        assert execute(text, program) == naive(text, dict.fromkeys(program.replaced), removed)
        assert set(program.replaced) == set(in_order)


@pytest.mark.parametrize(
    "program", ["keep_chunk()", "", "  \n", 'normalize("not there", "x")', "keep_chunk()\nkeep_chunk()"]
)
def test_a_program_without_effect_keeps_the_text(program):
    assert refined(program) == (TEXT, "kept as it is")


def test_one_line_less_and_the_union_of_intervals():
    assert refined("remove_lines(0, 0)")[0] == "\n".join(LINES[1:])
    assert refined("remove_lines(1, 3)\nremove_lines(2, 5)")[0] == "\n".join(LINES[:1] + LINES[6:])


def test_replacements_come_first_whatever_the_order_of_calls():
    program = 'remove_lines(7, 7)\nnormalize("line ", "row, (=")'
    assert refined(program)[0] == "\n".join(line.replace("line ", "row, (=") for line in LINES[:7])


def test_a_document_of_which_nothing_is_left_is_dropped():
    assert refined("remove_lines(0, 7)") == (None, "dropped: too small a share is left")
    assert refined("remove_lines(1, 7)", min_words=100) == (None, "dropped: too few words are left")
    assert refined(None, doc_program="drop_doc()") == (None, "dropped by its program")
    assert refined("remove_lines(0, 0)", doc_program="keep_doc()")[1] == "refined"


def test_an_interval_beyond_the_end_is_an_error_and_is_cut():
    assert refined("remove_lines(6, 99)") == ("\n".join(LINES[:6]), "refined")
    assert refined("remove_lines(6, 99)\nremove_lines(99, 100)") == (TEXT, "kept as it is: malformed program")
    assert refined("remove_lines(6, 99)", max_errors=0) == (TEXT, "kept as it is: malformed program")


def test_words_of_scripts_without_blanks_are_characters():
    text = "第一行有很多字符所以留下来\n版权所有"
    assert refined("remove_lines(1, 1)", text) == (text.split("\n")[0], "refined")


@pytest.mark.parametrize(
    "line",
    [
        "remove_lines(0)",
        "remove_lines(0, 1, 2)",
        "remove_lines(0, '1')",
        "remove_lines(0, True)",
        "remove_lines(0, 1.0)",
        "remove_lines(0, 1+1)",
        "remove_lines(*[0, 1])",
        "remove_lines(**{'start': 0, 'end': 1})",
        "remove_lines(-1, 2)",
        "remove_lines(3, 2)",
        "remove_lines(0, start=1)",
        "normalize('', 'x')",
        "normalize('a\\n', 'x')",
        "normalize(b'a', 'x')",
        "normalize(f'{1}', 'x')",
        "normalize('a', '\\ud800')",
        "keep_chunk(1)",
        "keep_chunk",
        "drop_doc().x",
        "remove_lines(0, 1); x()",
        "__import__('os').system('touch /tmp/x')",
        "normalize(open('/etc/passwd').read(), 'x')",
        "remove_lines(0, 1)\0",
        "(lambda: 1)()",
        "remove_lines(0, (1))(2)",
        "remove_lines(" + "(" * 5000,
        "remove_lines(0, " + "-" * 9000 + "1)",
        "some prose",
    ],
)
def test_a_malformed_call_is_counted_and_nothing_of_it_runs(line):
    program = parse(line, 8)
    assert program.errors == 1 and not program.removed and not program.replaced and not program.drop
    assert refined(f"remove_lines(0, 0)\n{line}")[1] == "refined"
    assert refined(f"remove_lines(0, 0)\n{line}\n{line}") == (TEXT, "kept as it is: malformed program")


def test_lists_of_a_model_and_strange_escapes_are_read(recwarn):
    assert parse("- remove_lines(0, 1)\n2. keep_chunk()", 8).removed == [(0, 1)]
    assert parse(r"normalize('\(', '')", 8).replaced == [("\\(", "")] and not recwarn.list


def test_programs_of_ten_megabytes_end_soon():
    begin = time.process_time()
    assert parse("x" * 10**7, 8).errors == 1
    assert parse("x\n" * (5 * 10**6), 8).errors == 5 * 10**6
    assert parse(f"normalize('{'x' * LONGEST_CALL}', '')", 8).errors == 1
    assert refined("remove_lines(0, 10000000000000000000)")[1] == "dropped: too small a share is left"
    assert time.process_time() - begin < 60


def test_rules_find_what_is_no_prose():
    text = (
        "Home | About us | Contact\n"
        + LINES[0]
        + "\nhttps://example.org/a?b=c\n\n© 2020 Someone. All rights reserved.\n"
        + LINES[1]
    )
    assert rules.chunk_program(text) == "remove_lines(0, 0)\nremove_lines(2, 2)\nremove_lines(4, 4)"
    assert rewrite(text, None, None) == (LINES[0] + "\n\n" + LINES[1], "refined")
    assert rules.chunk_program(TEXT) == "keep_chunk()" and rules.doc_program("", 0.5) == "keep_doc()"
    assert rewrite("Home | About | Help\nok", None, None) == (None, "dropped by its program")


def test_rules_write_programs_of_the_language():
    text = "\n".join(["Log in", *LINES, "Privacy policy", "www.example.org"])
    program = parse(rules.chunk_program(text), text.count("\n") + 1)
    assert program.errors == 0 and program.removed == [(0, 0), (9, 10)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"programs": "fields"}, "needs doc_program_field or"), ({"doc_program_field": "d"}, "add programs=fields")],
)
def test_programs_and_their_fields_go_together(keys, message):
    with pytest.raises(UserError, match=message):
        rewrite("", None, None, **keys)
