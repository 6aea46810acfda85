"""Checks that llama.cpp and Hippodrome compute the same model: the weights of one GGUF, given to both, must give the same logits.

Usage: check_llama.py [FAMILY …] [--program build/release/bin/hippodrome]
llama.cpp reads most of the tokens as a prompt and the rest one by one; Hippodrome reads a folder of Hugging Face's with the same
weights. Fails where logits differ by more than float32's roundings explain.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import safetensors.numpy

import llama_model
import llama_peer
import shapes

PROMPT, STEPS = 48, 8
TOLERANCE = 1e-4  # of the largest logit


def unpermuted(weight, heads):
    """llama.cpp rotates pairs (2i, 2i + 1) of a head, Hugging Face's files pairs (i, i + hd/2)."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def attention(tensors, block, to, heads=None, kv_heads=None):
    q, k = tensors[f"{block}.attn_q.weight"], tensors[f"{block}.attn_k.weight"]
    if heads:
        q, k = unpermuted(q, heads), unpermuted(k, kv_heads)
    return {f"{to}.q_proj.weight": q, f"{to}.k_proj.weight": k, f"{to}.v_proj.weight": tensors[f"{block}.attn_v.weight"],
            f"{to}.o_proj.weight": tensors[f"{block}.attn_output.weight"]}


def mlp(tensors, block, to):
    return {f"{to}.{name}_proj.weight": tensors[f"{block}.ffn_{name}.weight"] for name in ("gate", "up", "down")}


def mamba(tensors, block, to):
    names = {"in_proj.weight": "ssm_in.weight", "conv1d.bias": "ssm_conv1d.bias", "x_proj.weight": "ssm_x.weight",
             "dt_proj.weight": "ssm_dt.weight", "dt_proj.bias": "ssm_dt.bias", "D": "ssm_d", "out_proj.weight": "ssm_out.weight"}
    result = {f"{to}.{theirs}": tensors[f"{block}.{name}"] for theirs, name in names.items()}
    result[f"{to}.conv1d.weight"] = tensors[f"{block}.ssm_conv1d.weight"][:, None]
    result[f"{to}.A_log"] = np.log(-tensors[f"{block}.ssm_a"])
    return result


def mamba2(tensors, block, to):
    names = {"in_proj.weight": "ssm_in.weight", "conv1d.bias": "ssm_conv1d.bias", "dt_bias": "ssm_dt.bias",
             "out_proj.weight": "ssm_out.weight"}
    result = {f"{to}.{theirs}": tensors[f"{block}.{name}"] for theirs, name in names.items()}
    result[f"{to}.conv1d.weight"] = tensors[f"{block}.ssm_conv1d.weight"][:, None]
    result[f"{to}.A_log"] = np.log(-tensors[f"{block}.ssm_a"]).flatten()
    result[f"{to}.D"] = tensors[f"{block}.ssm_d"].flatten()
    result[f"{to}.norm.weight"] = tensors[f"{block}.ssm_norm.weight"].flatten()
    return result


def layer(family, tensors, i):
    block = f"blk.{i}"
    norm, second = tensors[f"{block}.attn_norm.weight"], tensors.get(f"{block}.ffn_norm.weight")
    if family in ("mamba", "mamba2"):
        to = f"backbone.layers.{i}"
        return {f"{to}.norm.weight": norm, **(mamba if family == "mamba" else mamba2)(tensors, block, f"{to}.mixer")}
    to = f"model.layers.{i}"
    if family == "llama":
        return {f"{to}.input_layernorm.weight": norm, f"{to}.post_attention_layernorm.weight": second,
                **attention(tensors, block, f"{to}.self_attn", heads=4, kv_heads=4), **mlp(tensors, block, f"{to}.mlp")}
    result = {f"{to}.input_layernorm.weight": norm, f"{to}.pre_ff_layernorm.weight": second}
    if f"{block}.attn_q.weight" in tensors:
        result |= attention(tensors, block, f"{to}.self_attn")
    else:
        result |= mamba(tensors, block, f"{to}.mamba")
        result |= {f"{to}.mamba.{name}_layernorm.weight": tensors[f"{block}.ssm_{name}_norm.weight"] for name in ("dt", "b", "c")}
    if f"{block}.ffn_gate.weight" in tensors:
        return result | mlp(tensors, block, f"{to}.feed_forward")
    result[f"{to}.feed_forward.router.weight"] = tensors[f"{block}.ffn_gate_inp.weight"]
    for expert in range(4):
        for name in ("gate", "up", "down"):
            result[f"{to}.feed_forward.experts.{expert}.{name}_proj.weight"] = tensors[f"{block}.ffn_{name}_exps.weight"][expert]
    return result


def write_folder(family, tensors, folder):
    """The folder of Hugging Face's that holds the tensors of the GGUF."""
    names = {"llama": ("model.embed_tokens.weight", "model.norm.weight"),
             "jamba": ("model.embed_tokens.weight", "model.final_layernorm.weight")}
    embedding, norm = names.get(family, ("backbone.embeddings.weight", "backbone.norm_f.weight"))
    weights = {embedding: tensors["token_embd.weight"], norm: tensors["output_norm.weight"], "lm_head.weight": tensors["output.weight"]}
    for i in range(shapes.FAMILIES[family]["layers"]):
        weights |= layer(family, tensors, i)
    safetensors.numpy.save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, folder / "model.safetensors")
    kind, keys = shapes.FAMILIES[family]["config"]
    kind = kind.removesuffix("Config")
    config = {"model_type": kind.lower(), "architectures": [f"{kind}ForCausalLM"], "vocab_size": shapes.VOCABULARY,
              "tie_word_embeddings": False, **keys}
    (folder / "config.json").write_text(json.dumps(config))


def difference(program, family):
    """The largest difference of the logits behind the prompt and each step, as a share of the largest logit."""
    tokens = np.random.default_rng(2).integers(shapes.VOCABULARY, size=PROMPT + STEPS)
    model = llama_peer.Model(family, context=PROMPT + STEPS, threads=1, batch=512)
    model.feed(tokens[:PROMPT].tolist())
    theirs = [model.logits().copy()]
    for token in tokens[PROMPT:]:
        model.feed([int(token)])
        theirs.append(model.logits().copy())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_folder(family, model.tensors, folder)
        safetensors.numpy.save_file({"tokens": tokens[None].astype(np.int64)}, folder / "tokens.safetensors")
        subprocess.run([program, "logits", "--model", folder, "--tokens", folder / "tokens.safetensors", "--out",
                        folder / "logits.safetensors"], check=True, stdout=subprocess.DEVNULL)
        ours = safetensors.numpy.load_file(folder / "logits.safetensors")["logits"][0, PROMPT - 1:]
    return np.abs(ours - np.stack(theirs)).max() / np.abs(ours).max()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(llama_model.WRITERS))
    parser.add_argument("--program", default=pathlib.Path(__file__).resolve().parents[2] / "build/release/bin/hippodrome")
    arguments = parser.parse_args()
    failed = False
    for family in arguments.families:
        found = difference(arguments.program, family)
        failed = failed or not found < TOLERANCE
        print(f"{family}: logits differ by {found:.1e} of the largest{'' if found < TOLERANCE else ', which is too much'}")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
