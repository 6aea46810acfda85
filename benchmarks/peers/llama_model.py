"""Writes the compared shapes as GGUF files of random float32 weights, by the `gguf` package, for llama.cpp to read.

A GGUF holds matrices as NumPy does, [out, in]. Values matter to no timing; they are drawn so that every part of a model weighs in
its logits, which check_llama.py compares with ours.
"""
import gguf
import numpy as np

import shapes

D, V = shapes.WIDTH, shapes.VOCABULARY
CONTEXT = 32768


class Writer:
    def __init__(self, path, architecture, layers):
        self.gguf = gguf.GGUFWriter(path, architecture)
        self.random = np.random.default_rng(1)
        self.tensors = {}
        self.gguf.add_block_count(layers)
        self.gguf.add_context_length(CONTEXT)
        self.gguf.add_embedding_length(D)
        self.gguf.add_vocab_size(V)
        self.gguf.add_file_type(gguf.LlamaFileType.ALL_F32)
        self.gguf.add_tokenizer_model("none")
        self.add("token_embd.weight", self.random.standard_normal((V, D)))
        self.draw("output.weight", V, D)
        self.fill("output_norm.weight", 1.0, D)

    def add(self, name, values):
        self.tensors[name] = values.astype(np.float32)
        self.gguf.add_tensor(name, self.tensors[name])

    def draw(self, name, *shape):
        self.add(name, self.random.standard_normal(shape) / np.sqrt(shape[-1]))

    def fill(self, name, value, *shape):
        self.add(name, np.full(shape, value))

    def close(self):
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()
        return self.tensors


def mamba_keys(writer, states, rank):
    writer.gguf.add_ssm_conv_kernel(4)
    writer.gguf.add_ssm_inner_size(2 * D)
    writer.gguf.add_ssm_state_size(states)
    writer.gguf.add_ssm_time_step_rank(rank)


def mamba_layer(writer, block, inner_norms):
    inner, states, rank = 2 * D, 16, D // 16
    writer.draw(f"{block}.ssm_in.weight", 2 * inner, D)
    writer.draw(f"{block}.ssm_conv1d.weight", inner, 4)
    writer.fill(f"{block}.ssm_conv1d.bias", 0.0, inner)
    writer.draw(f"{block}.ssm_x.weight", rank + 2 * states, inner)
    if inner_norms:
        writer.fill(f"{block}.ssm_dt_norm.weight", 1.0, rank)
        writer.fill(f"{block}.ssm_b_norm.weight", 1.0, states)
        writer.fill(f"{block}.ssm_c_norm.weight", 1.0, states)
    writer.draw(f"{block}.ssm_dt.weight", inner, rank)
    writer.fill(f"{block}.ssm_dt.bias", -4.6, inner)
    writer.add(f"{block}.ssm_a", -np.tile(np.arange(1.0, states + 1), (inner, 1)))
    writer.fill(f"{block}.ssm_d", 1.0, inner)
    writer.draw(f"{block}.ssm_out.weight", D, inner)


def attention_layer(writer, block, heads, kv_heads):
    size = D // heads
    writer.draw(f"{block}.attn_q.weight", D, D)
    writer.draw(f"{block}.attn_k.weight", kv_heads * size, D)
    writer.draw(f"{block}.attn_v.weight", kv_heads * size, D)
    writer.draw(f"{block}.attn_output.weight", D, D)


def mlp_layer(writer, block, hidden):
    writer.draw(f"{block}.ffn_gate.weight", hidden, D)
    writer.draw(f"{block}.ffn_up.weight", hidden, D)
    writer.draw(f"{block}.ffn_down.weight", D, hidden)


def write_mamba(path):
    layers = shapes.FAMILIES["mamba"]["layers"]
    writer = Writer(path, "mamba", layers)
    mamba_keys(writer, 16, D // 16)
    writer.gguf.add_feed_forward_length(0)
    writer.gguf.add_head_count(0)
    writer.gguf.add_layer_norm_rms_eps(1e-5)
    for i in range(layers):
        writer.fill(f"blk.{i}.attn_norm.weight", 1.0, D)
        mamba_layer(writer, f"blk.{i}", inner_norms=False)
    return writer.close()


def write_mamba2(path):
    layers, inner, states, heads = shapes.FAMILIES["mamba2"]["layers"], 2 * D, 128, 8
    writer = Writer(path, "mamba2", layers)
    mamba_keys(writer, states, heads)
    writer.gguf.add_ssm_group_count(1)
    writer.gguf.add_feed_forward_length(0)
    writer.gguf.add_head_count(0)
    writer.gguf.add_layer_norm_rms_eps(1e-5)
    for i in range(layers):
        block, convolved = f"blk.{i}", inner + 2 * states
        writer.fill(f"{block}.attn_norm.weight", 1.0, D)
        writer.draw(f"{block}.ssm_in.weight", inner + convolved + heads, D)
        writer.draw(f"{block}.ssm_conv1d.weight", convolved, 4)
        writer.fill(f"{block}.ssm_conv1d.bias", 0.0, convolved)
        writer.fill(f"{block}.ssm_dt.bias", -4.6, heads)
        writer.fill(f"{block}.ssm_a", -4.0, heads, 1)
        writer.fill(f"{block}.ssm_d", 1.0, heads, 1)
        writer.fill(f"{block}.ssm_norm.weight", 1.0, 1, inner)
        writer.draw(f"{block}.ssm_out.weight", D, inner)
    return writer.close()


def write_llama(path):
    layers, hidden, heads = shapes.FAMILIES["llama"]["layers"], 688, 4
    writer = Writer(path, "llama", layers)
    writer.gguf.add_feed_forward_length(hidden)
    writer.gguf.add_head_count(heads)
    writer.gguf.add_head_count_kv(heads)
    writer.gguf.add_rope_dimension_count(D // heads)
    writer.gguf.add_layer_norm_rms_eps(1e-5)
    for i in range(layers):
        writer.fill(f"blk.{i}.attn_norm.weight", 1.0, D)
        attention_layer(writer, f"blk.{i}", heads, heads)
        writer.fill(f"blk.{i}.ffn_norm.weight", 1.0, D)
        mlp_layer(writer, f"blk.{i}", hidden)
    return writer.close()


def write_jamba(path):
    layers, hidden, heads, kv_heads, experts = shapes.FAMILIES["jamba"]["layers"], 192, 4, 2, 4
    writer = Writer(path, "jamba", layers)
    mamba_keys(writer, 16, D // 16)
    writer.gguf.add_feed_forward_length(hidden)
    writer.gguf.add_head_count(heads)
    writer.gguf.add_head_count_kv([kv_heads if i % 8 == 4 else 0 for i in range(layers)])
    writer.gguf.add_expert_count(experts)
    writer.gguf.add_expert_used_count(2)
    writer.gguf.add_layer_norm_rms_eps(1e-6)
    for i in range(layers):
        block = f"blk.{i}"
        writer.fill(f"{block}.attn_norm.weight", 1.0, D)
        if i % 8 == 4:
            attention_layer(writer, block, heads, kv_heads)
        else:
            mamba_layer(writer, block, inner_norms=True)
        writer.fill(f"{block}.ffn_norm.weight", 1.0, D)
        if i % 2 == 1:
            writer.draw(f"{block}.ffn_gate_inp.weight", experts, D)
            writer.draw(f"{block}.ffn_gate_exps.weight", experts, hidden, D)
            writer.draw(f"{block}.ffn_up_exps.weight", experts, hidden, D)
            writer.draw(f"{block}.ffn_down_exps.weight", experts, D, hidden)
        else:
            mlp_layer(writer, block, hidden)
    return writer.close()


# Each takes a path, writes the file and returns its tensors by name.
WRITERS = {"mamba": write_mamba, "mamba2": write_mamba2, "llama": write_llama, "jamba": write_jamba}
