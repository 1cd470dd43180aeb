"""Rows that cannot be trained on, and files that hold no rows."""

from tests.bad_inputs.case import Case
from tests.user import GOOD, talk

ROW = '{"messages": [{"role": "user", "content": "q"}, %s]}\n'
LONG = talk("a b c " * 200, "d")

CASES = {
    "malformed line": Case("rows.jsonl:2: is not JSON:", GOOD.splitlines()[0] + '\n{"messages": [\n'),
    "a list as a row": Case("rows.jsonl:1: is a list, not a mapping of columns.", "[1, 2]\n"),
    "a number as a row": Case("rows.jsonl:1: is a number, not a mapping of columns.", "3\n"),
    "one object a line in .json": Case(
        "a.json:2: is not JSON: Extra data. With one object a line the file must end in .jsonl.",
        words="recipe=mine mix.datasets=[a.json]",
        files=(("a.json", GOOD),),
    ),
    "an object in .json": Case(
        "a.json: holds an object, not a list of rows. Form: [{...}, {...}], or .jsonl.",
        words="recipe=mine mix.datasets=[a.json]",
        files=(("a.json", "{}"),),
    ),
    "another number of fields": Case(
        "a.csv:2: has another number of fields than the header.",
        words="recipe=mine mix.datasets=[a.csv]",
        files=(("a.csv", "query,response\na,b,c\n"),),
    ),
    "no Parquet": Case(
        "a.parquet: is not Parquet: ", words="recipe=mine mix.datasets=[a.parquet]", files=(("a.parquet", "x"),)
    ),
    "an unknown ending": Case(
        (
            "command line: mix.datasets=[a.xlsx]: mix.datasets.0 (stage train): cannot read a.xlsx. Files end in "
            ".jsonl, .json, .csv, .parquet, .arrow, or these with .gz."
        ),
        words="recipe=mine mix.datasets=[a.xlsx]",
        files=(("a.xlsx", "x"),),
    ),
    "wrong columns": Case(
        (
            "rows.jsonl:1: its columns (colour, shape) are not those of a known format. Say what they "
            "mean: columns: {old: query, other: response}, or choose a format: NAME."
        ),
        '{"colour": "red", "shape": "round"}\n',
    ),
    "a column that is not there": Case(
        "mix.datasets.0.columns.quesion: rows.jsonl has no such column. Choices: messages.",
        words="recipe=mine mix.datasets=[{dataset:rows.jsonl,columns:{quesion:query}}]",
    ),
    "two columns for one role": Case(
        ("rows.jsonl:1: columns query and question could be the query. Say which: columns: {query: query}"),
        '{"query": "a", "question": "b", "response": "c"}\n',
    ),
    "empty file": Case("rows.jsonl: holds no rows.", ""),
    "a folder without data": Case(
        (
            "command line: mix.datasets=[recipes]: mix.datasets.0 (stage train): recipes holds no data. Files end in "
            ".jsonl, .json, .csv, .parquet, .arrow, or these with .gz."
        ),
        words="recipe=mine mix.datasets=[recipes]",
    ),
    "no data set": Case(
        ("command line: mix.datasets (stage train): empty. Give files, folders or hub ids: mix.datasets=[my.jsonl]."),
        words="recipe=mine mix.datasets=[]",
    ),
    "a file that is not there": Case(
        "mix.datasets.0 (stage train): 'row.jsonl' is no file or folder. Did you mean rows.jsonl?",
        words="recipe=mine mix.datasets=[row.jsonl]",
    ),
    "no assistant turn": Case(
        "rows.jsonl: row 0: it has no assistant turn. None of the 1 rows can be trained on.",
        '{"messages": [{"role": "user", "content": "q"}]}\n',
    ),
    "everything over max_length": Case(
        ("rows.jsonl: row 0: longer than max_length (1038 > 100 tokens). None of the 3 rows can be trained on."),
        LONG * 3,
    ),
    "everything masked": Case(
        ("rows.jsonl: row 0: nothing in it is trained: every weight is 0. None of the 1 rows can be trained on."),
        ROW % '{"role": "assistant", "content": "a", "loss": false}',
    ),
    "everything weighs nothing": Case(
        ("rows.jsonl: row 0: nothing in it is trained: every weight is 0. None of the 1 rows can be trained on."),
        ROW % '{"role": "assistant", "content": "a", "loss_scale": 0}',
    ),
    "left-over variable": Case(
        (
            "rows.jsonl:1: {{NAME}} is left over. Give it a value: mix.variables.NAME=… (or "
            "mix.variables.NAME='{{NAME}}' where the text means it)."
        ),
        talk("Who are you?", "I am {{NAME}}."),
    ),
    "no value for the language": Case(
        (
            "rows.jsonl:1: {{NAME}} has values for zh, en, and the row has no column for its language "
            "(tag, lang, language)."
        ),
        talk("q", "I am {{NAME}}."),
        "recipe=mine mix.variables.NAME={zh:a,en:b}",
    ),
    "broken encoding": Case(
        "rows.jsonl: is not UTF-8 text (invalid continuation byte at byte 14). Save it as UTF-8.",
        b'{"query": "caf\xe9", "response": "b"}\n',
    ),
    "another encoding": Case(
        "rows.jsonl: is not UTF-8 text (invalid start byte at byte 0). Save it as UTF-8.", GOOD.encode("utf-16")
    ),
    "null content": Case(
        "rows.jsonl: row 0: a message is empty (messages[1]). None of the 1 rows can be trained on.",
        ROW % '{"role": "assistant", "content": null}',
    ),
    "empty content": Case(
        "rows.jsonl: row 0: a message is empty (messages[1]). None of the 1 rows can be trained on.",
        ROW % '{"role": "assistant", "content": ""}',
    ),
    "a number as content": Case(
        ("rows.jsonl: row 0: a message's content is no text (messages[1]: 3). None of the 1 rows can be trained on."),
        ROW % '{"role": "assistant", "content": 3}',
    ),
    "an image as content": Case(
        (
            "rows.jsonl: row 0: a message holds more than text (messages[1]: image). None of the 1 rows "
            "can be trained on."
        ),
        ROW % '{"role": "assistant", "content": [{"type": "image"}]}',
    ),
    "unknown role": Case(
        (
            "rows.jsonl: row 0: a message has the role 'robot' (messages[1]; roles: system, user, "
            "assistant, tool). None of the 1 rows can be trained on."
        ),
        ROW % '{"role": "robot", "content": "a"}',
    ),
    "no role": Case(
        (
            "rows.jsonl: row 0: a message has no role (messages[1]; roles: system, user, assistant, "
            "tool). None of the 1 rows can be trained on."
        ),
        ROW % '{"content": "a"}',
    ),
    "null messages": Case(
        "rows.jsonl: row 0: messages is no list of messages (None). None of the 1 rows can be trained on.",
        '{"messages": null}\n',
    ),
    "no messages": Case(
        "rows.jsonl: row 0: messages is empty. None of the 1 rows can be trained on.", '{"messages": []}\n'
    ),
    "messages that are no list": Case(
        (
            "rows.jsonl: row 0: messages is no JSON (Expecting value: line 1 column 1 (char 0)). None of "
            "the 1 rows can be trained on."
        ),
        '{"messages": "hello"}\n',
    ),
    "too many dropped": Case(
        (
            "rows.jsonl: 3 of 23 rows cannot be trained on: longer than max_length; for example "
            "rows.jsonl: row 20: longer than max_length (1038 > 100 tokens). Mend the rows, or allow so "
            "many: data.max_dropped=0.14."
        ),
        GOOD + LONG * 3,
    ),
    "a filter that no row passes": Case(
        "rows.jsonl: none of its 20 rows passes the filter len(messages)>9.",
        words="recipe=mine \"mix.datasets=[{dataset:rows.jsonl,filter:'len(messages)>9'}]\"",
    ),
    "a filter that is none": Case(
        (
            "mix.datasets.0.filter (stage train): 'import os' is no expression: "
            'invalid syntax. Form: len(response) < 2000 and tag == "en"'
        ),
        words='recipe=mine mix.datasets=[{dataset:rows.jsonl,filter:"import os"}]',
    ),
    "a validation that leaves nothing": Case(
        "mix.validation: 20 rows are more than the mix can spare. It has 20 different rows.",
        words="recipe=mine mix.validation.rows=20",
    ),
    "a format that is not there": Case(
        "mix.datasets.0.format (stage train): no format named 'mesages'. Did you mean messages?",
        words="recipe=mine mix.datasets=[{dataset:rows.jsonl,format:mesages}]",
    ),
    "count of no rows": Case(
        (
            "command line: mix.datasets=['rows.jsonl#0']: mix.datasets.0 (stage train): '0' is no number of rows "
            "(value 'rows.jsonl#0'). Form: name#500."
        ),
        words="recipe=mine mix.datasets=[rows.jsonl#0]",
    ),
    "count that is none": Case(
        (
            "command line: mix.datasets=['rows.jsonl#all']: mix.datasets.0 (stage train): 'all' is no number of rows "
            "(value 'rows.jsonl#all'). Form: name#500."
        ),
        words="recipe=mine mix.datasets=[rows.jsonl#all]",
    ),
    "a truncated gzip": Case(
        "a.jsonl.gz: cannot be read: Not a gzipped file",
        words="recipe=mine mix.datasets=[a.jsonl.gz]",
        files=(("a.jsonl.gz", "\x1f"),),
    ),
    "data on a silent hub": Case(
        "Give a folder or file in its place, such as /path/to/rows.",
        words="recipe=mine mix.datasets=[org/rows]",
    ),
    "data on the other silent hub": Case(
        (
            "org/rows: is not on this machine, and huggingface does not answer (Connection refused). "
            "Give a folder or file in its place, such as /path/to/rows."
        ),
        words="recipe=mine mix.datasets=[hf::org/rows]",
    ),
    "no such hub": Case(
        (
            "command line: mix.datasets=[xx::org/rows]: mix.datasets.0 (stage train): no hub 'xx' (value "
            "'xx::org/rows'). Write ms::id for ModelScope, hf::id for Hugging Face."
        ),
        words="recipe=mine mix.datasets=[xx::org/rows]",
    ),
}
