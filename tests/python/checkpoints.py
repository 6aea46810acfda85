"""Models of Hugging Face's transformers through the program and back. Usage: checkpoints.py PROGRAM [CASE…]

Each case is a small random model of odd shape. transformers saves it; the program's logits, from the folder as it is and from
an imported one, are compared with transformers' own, in float32 and float64, and so are greedily generated tokens; then the
program exports it, transformers loads that, and every parameter and the logits must be the same.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

warnings.filterwarnings("ignore")

import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

PROGRAM = sys.argv[1]
# Models of this size only wait for each other's threads.
torch.set_num_threads(1)
ROWS, NEW_TOKENS = 2, 12
# Greatest difference over the rms of the logits. The library's own float64 run casts norms, softmax and scans to float32.
BOUNDS = {"float32": 2e-5, "float64": 2e-5}


class Case:
    """`change(folder)` edits what save_pretrained wrote; `stored` is the dtype on disk."""

    def __init__(self, config, length=37, stored=torch.float32, shard="10GB", change=None):
        self.config = config
        self.length = length
        self.stored = stored
        self.shard = shard
        self.change = change


def bare_gpt2(folder):
    """As the published file: no prefix, and the masks among the weights."""
    file = folder / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    for layer in range(3):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, file, {"format": "pt"})


def old_llama(folder):
    """Version 4's dialect: rope_theta and rope_scaling beside each other, torch_dtype, no head_dim."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {"type": rope["rope_type"], "factor": rope["factor"]}
    config["torch_dtype"] = config.pop("dtype")
    del config["head_dim"], config["num_key_value_heads"]
    file.write_text(json.dumps(config))


def bare_infinity(folder):
    """Version 4 writes infinity as no JSON parser wants it."""
    file = folder / "config.json"
    text = file.read_text()
    assert "__float__" in text, text
    config = json.loads(text)
    config["time_step_limit"] = [0.0, float("inf")]
    file.write_text(json.dumps(config))


def named_as_by_authors(folder):
    """The authors' own Mamba files: another name of the embedding, and the tied head once more."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    embedding = tensors.pop("backbone.embeddings.weight")
    tensors["backbone.embedding.weight"] = embedding
    tensors["lm_head.weight"] = embedding.clone()
    save_file(tensors, file, {"format": "pt"})


def gpt2(**keys):
    return transformers.GPT2Config(**{"vocab_size": 97, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4, **keys})


def llama(**keys):
    return transformers.LlamaConfig(**{"vocab_size": 97, "hidden_size": 48, "intermediate_size": 84, "num_hidden_layers": 3,
                                       "num_attention_heads": 6, "num_key_value_heads": 2, **keys})


def mistral(**keys):
    return transformers.MistralConfig(**{"vocab_size": 89, "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 3,
                                         "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 5, **keys})


def mixtral(**keys):
    return transformers.MixtralConfig(**{"vocab_size": 89, "hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 2,
                                         "num_attention_heads": 4, "num_key_value_heads": 1, "num_local_experts": 5, **keys})


def mamba(**keys):
    return transformers.MambaConfig(**{"vocab_size": 96, "hidden_size": 32, "state_size": 7, "num_hidden_layers": 3, **keys})


def mamba2(**keys):
    return transformers.Mamba2Config(**{"vocab_size": 96, "hidden_size": 32, "num_heads": 8, "head_dim": 8, "state_size": 12,
                                        "n_groups": 2, "chunk_size": 16, "num_hidden_layers": 3, **keys})


def rwkv(**keys):
    return transformers.RwkvConfig(**{"vocab_size": 83, "hidden_size": 32, "num_hidden_layers": 7, "context_length": 64, **keys})


def jamba(**keys):
    return transformers.JambaConfig(**{"vocab_size": 91, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 6,
                                       "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 4,
                                       "attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 2,
                                       "expert_layer_offset": 0, "mamba_d_state": 9, **keys})


LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}
BFLOAT16 = torch.bfloat16

CASES = {
    "gpt2": Case(gpt2()),
    "gpt2_bare": Case(gpt2(), change=bare_gpt2),
    "gpt2_untied_exact_gelu": Case(gpt2(activation_function="gelu", n_inner=100, tie_word_embeddings=False,
                                        layer_norm_epsilon=1e-3)),
    "gpt2_relu_one_token": Case(gpt2(activation_function="relu"), length=1),
    "llama": Case(llama()),
    "llama_head_size_biases": Case(llama(head_dim=10, attention_bias=True, mlp_bias=True)),
    "llama_tied_llama3": Case(llama(tie_word_embeddings=True, rope_parameters=LLAMA3, max_position_embeddings=128)),
    "llama_old_linear": Case(llama(num_key_value_heads=6, rope_parameters=LINEAR), change=old_llama),
    "llama_sharded_bfloat16": Case(llama(), stored=BFLOAT16, shard="20KB"),
    "mistral_window": Case(mistral()),
    "mistral_no_window": Case(mistral(sliding_window=None, head_dim=6)),
    "mixtral": Case(mixtral()),
    "mixtral_window_sharded": Case(mixtral(sliding_window=7, num_experts_per_tok=3, head_dim=14), shard="20KB"),
    "mamba": Case(mamba()),
    "mamba_by_authors": Case(mamba(), change=named_as_by_authors),
    "mamba_odd_untied": Case(mamba(intermediate_size=40, conv_kernel=3, time_step_rank=5, use_bias=True,
                                   use_conv_bias=False, tie_word_embeddings=False)),
    "mamba_bfloat16": Case(mamba(), stored=BFLOAT16),
    "mamba2": Case(mamba2()),
    "mamba2_old_infinity": Case(mamba2(n_groups=1), change=bare_infinity),
    "mamba2_limits_biases": Case(mamba2(time_step_limit=(0.05, 0.4), use_bias=True, use_conv_bias=False,
                                        tie_word_embeddings=True)),
    "rwkv": Case(rwkv()),
    "rwkv_odd": Case(rwkv(intermediate_size=72, attention_hidden_size=32, layer_norm_epsilon=1e-3)),
    "jamba": Case(jamba()),
    "jamba_no_experts": Case(jamba(num_experts=1, mamba_proj_bias=True, mamba_conv_bias=False, mamba_dt_rank=3,
                                   attn_layer_period=4, attn_layer_offset=3, num_hidden_layers=5)),
    "jamba_sharded_bfloat16": Case(jamba(attn_layer_period=2, attn_layer_offset=0, tie_word_embeddings=True),
                                   stored=BFLOAT16, shard="20KB"),
}


def randomise(model, generator):
    """Weights at which every part of the model matters, unlike at the library's own initial values."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            matrix = parameter.dim() >= 2 and not any(word in name for word in ("A_log", "conv1d", "time_mix", "embed", "wte", "wpe"))
            if matrix:
                fan_in = parameter.shape[0] if isinstance(model, transformers.GPT2LMHeadModel) and "lm_head" not in name else parameter.shape[-1]
                parameter.copy_(noise / fan_in**0.5)
            elif "embed" in name or "wte" in name:
                parameter.copy_(noise)
            else:
                parameter.add_(0.2 * noise)


def run(*arguments):
    result = subprocess.run([PROGRAM, "--threads", "1", *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(map(str, arguments))}: {result.stderr.strip()}"
    return result.stdout


def program_logits(model, tokens, folder, dtype):
    save_file({"tokens": tokens}, folder / "tokens.safetensors")
    run("logits", "--model", model, "--tokens", folder / "tokens.safetensors", "--out", folder / "logits.safetensors",
        "--dtype", dtype)
    return load_file(folder / "logits.safetensors")["logits"]


def load(folder, dtype):
    keys = {"dtype": dtype}
    if dtype == torch.float64:
        keys["experts_implementation"] = "eager"  # the grouped product has no float64
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **keys).eval()
    if model.config.model_type == "rwkv":
        model.config.rescale_every = 0  # not neutral, and not computed here
    return model


def difference(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.square().mean().sqrt()).item()


def check(name, case, folder):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    model = transformers.AutoModelForCausalLM.from_config(case.config)
    randomise(model, generator)
    saved = folder / "saved"
    model.to(case.stored).save_pretrained(saved, max_shard_size=case.shard)
    assert (case.shard == "10GB") == (saved / "model.safetensors").exists(), "sharded or not"
    if case.change:
        case.change(saved)
    tokens = torch.randint(case.config.vocab_size, (ROWS, case.length), generator=generator)

    figures = []
    with torch.no_grad():
        reference = load(saved, torch.float32)
        expected = reference(tokens).logits
        for dtype in ("float32", "float64"):
            theirs = expected if dtype == "float32" else load(saved, torch.float64)(tokens).logits
            ours = program_logits(saved, tokens, folder, dtype)
            assert ours.dtype == getattr(torch, dtype) and ours.shape == theirs.shape, (ours.dtype, ours.shape)
            figures.append(difference(ours, theirs))
            assert figures[-1] <= BOUNDS[dtype], f"{dtype} logits differ by {figures[-1]:.1e} of their rms"

        reference.generation_config.eos_token_id = None
        # Without a mask it takes tokens that happen to be the padding's for padding.
        continued = reference.generate(tokens[:1], attention_mask=torch.ones_like(tokens[:1]), max_new_tokens=NEW_TOKENS,
                                       do_sample=False, pad_token_id=0)
        printed = run("generate", "--model", saved, "--prompt-ids", " ".join(map(str, tokens[0].tolist())),
                      "--new-tokens", NEW_TOKENS, "--greedy", "--print-ids")
        ids = [int(word) for word in printed.splitlines()[-1].split()]
        assert ids == continued[0, case.length :].tolist(), f"generated {ids}, not {continued[0, case.length:].tolist()}"

        ours = program_logits(saved, tokens, folder, "float32")
        run("import", saved, "--out", folder / "imported")
        assert torch.equal(program_logits(folder / "imported", tokens, folder, "float32"), ours), "imported logits differ"

        stored = "bfloat16" if case.stored == BFLOAT16 else "float32"
        for source in ("saved", "imported"):
            exported = folder / f"exported_{source}"
            run("export", folder / source, "--out", exported, "--dtype", stored, "--shard-size", case.shard.replace("GB", "GiB"))
            again = load(exported, torch.float32)
            assert again.config.model_type == case.config.model_type, again.config.model_type
            for (key, theirs), (other, ours) in zip(sorted(reference.state_dict().items()), sorted(again.state_dict().items())):
                assert key == other and torch.equal(ours, theirs), f"{key} differs after export of the {source} model"
            figure = difference(again(tokens).logits, expected)
            assert figure <= 1e-6, f"logits after export differ by {figure:.1e} of their rms"
    return figures


def main():
    names = sys.argv[2:] or list(CASES)
    failed = []
    for name in names:
        start = time.time()
        with tempfile.TemporaryDirectory() as folder:
            try:
                figures = check(name, CASES[name], pathlib.Path(folder))
                print(f"ok      {name}: float32 {figures[0]:.1e}, float64 {figures[1]:.1e} of rms, {time.time() - start:.1f} s")
            except Exception:
                failed.append(name)
                print(f"FAILED  {name}")
                traceback.print_exc(limit=-2, file=sys.stdout)
        sys.stdout.flush()
    print(f"{len(names) - len(failed)} of {len(names)} cases passed with transformers {transformers.__version__}")
    sys.exit(1 if failed else 0)


main()
