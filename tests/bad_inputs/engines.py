"""Engines that cannot answer: prompts that do not fit, servers that are down, adapters that are not there."""

import importlib.util

from tests.bad_inputs.case import Case

ASK = "recipe=asked stages.ask.questions=[hi] "
LONG = "hello " * 5000
SERVER = ASK + "backend.name=openai model.id=robin backend.engine.base_url=http://127.0.0.1:9/v1 "

CASES = {
    "prompts that are too long": Case(
        "1 questions failed, more than max_errors. The first: questions:1: the prompt has",
        words=f"recipe=asked 'stages.ask.questions=[hi,\"{LONG}\"]' stages.ask.max_errors=0",
        code=1,
    ),
    "a server that is down": Case(
        "backend.engine.base_url: no server answers at http://127.0.0.1:9/v1", words=SERVER, code=1
    ),
    "a misspelt key of an endpoint": Case(
        "command line: backend.engine.retrys (stage ask): no such key (value 3). Did you mean backend.engine.retries?",
        words=SERVER + "backend.engine.retrys=3",
    ),
    "an endpoint without an address": Case(
        "stages.ask.backend.engine.base_url: missing.", words=ASK + "backend.name=openai model.id=robin"
    ),
    "an endpoint with a password in its address": Case(
        "backend.engine.base_url (stage ask): holds a name or a password. Leave it out: a key is taken from the envi",
        words=ASK + "backend.name=openai model.id=robin backend.engine.base_url=http://me:secret@host/v1",
    ),
    "an endpoint without a scheme": Case(
        "backend.engine.base_url (stage ask): 'localhost:8000/v1' is no address of a server. Say one such as http://",
        words=ASK + "backend.name=openai model.id=robin backend.engine.base_url=localhost:8000/v1",
    ),
    "an adapter that is not there": Case(
        "command line: model.adapter (stage ask): no folder './no/adapter' here",
        words=ASK + "model.adapter=./no/adapter",
    ),
    "an engine argument of another engine": Case(
        "command line: backend.engine.max_model_len (stage ask): the transformers backend takes no engine arguments. "
        "Leave them out: ~backend.engine takes away those of a recipe.",
        words=ASK + "backend.name=transformers backend.engine.max_model_len=100",
    ),
    "an answer that transformers cannot guide": Case(
        "command line: sampling.guided_regex (stage ask): the transformers backend cannot guide answers. Take backend",
        words=ASK + "backend.name=transformers sampling.guided_regex=a+",
    ),
    "an answer that is guided twice": Case(
        "sampling: should say only one of guided_json and guided_regex (the other null)",
        words=ASK + "sampling.guided_regex=a+ +sampling.guided_json.type=object",
    ),
    "several samples of a greedy answer": Case(
        "sampling: should have a temperature above 0 for several samples: greedy ones are all the same",
        words=ASK + "sampling.n=3 sampling.temperature=0",
    ),
    "several samples of a model that is greedy by itself": Case(
        "sampling.n: 3 samples of a model whose own config is greedy are the same. Say sampling.temperature, above 0.",
        words=ASK + "sampling.n=3",
    ),
    "a temperature that vLLM does not take": Case(
        "command line: sampling.temperature (stage ask): vLLM takes 0 to 2, not 9.",
        words=ASK + "backend.name=vllm sampling.temperature=9.0",
    ),
    "a penalty that vLLM does not take": Case(
        "command line: sampling.presence_penalty (stage ask): vLLM takes -2 to 2, not 3.",
        words=ASK + "backend.name=vllm sampling.presence_penalty=3.0",
    ),
    "a result over other work": Case(
        "rows.jsonl: is there already, made by something else. Choose another path or remove it.",
        words=ASK + "stages.ask.result_path=rows.jsonl",
        code=1,
    ),
}
if importlib.util.find_spec("vllm") is None:
    CASES["vLLM where there is none"] = Case(
        "backend.name: vLLM cannot be imported: No module named 'vllm'. "
        "Install the extra: vllm, or take backend=transformers.",
        words=ASK + "backend.name=vllm",
    )
    CASES["an engine argument where auto is transformers"] = Case(
        "command line: backend.engine.max_model_len (stage ask): backend=auto is transformers here (vLLM is not "
        "installed), which takes no engine arguments. Leave it out, or choose the engine that it is meant for",
        words="plan " + ASK + "backend.engine.max_model_len=100",
    )
