#!/usr/bin/env python3
"""Writes the hand-made part of the fuzz corpora: small files, valid and hostile, one idea each.

(corpus/safetensors/numpy.safetensors is by the `safetensors` package itself; the files that this script does not write are
inputs on which fuzzing found a fault.)
"""
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).parent / "corpus"


def toml(name, recipe, *assignments):
    parts = [recipe.encode() if isinstance(recipe, str) else recipe]
    parts += [a.encode() if isinstance(a, str) else a for a in assignments]
    (ROOT / "toml" / name).write_bytes(b"\0".join(parts))


def safetensors(name, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    length = len(text) if length is None else length
    (ROOT / "safetensors" / name).write_bytes(struct.pack("<Q", length) + text + data)


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def checkpoint(name, config, shapes=None, weights=None, index=None):
    """A config.json, an index and a safetensors file, a zero byte between them; weights are zeros of `shapes` in F16."""
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    if weights is None:
        header, end = {}, 0
        for key, shape in (shapes or {}).items():
            size = 2
            for axis in shape:
                size *= axis
            header[key] = tensor("F16", shape, end, end + size)
            end += size
        packed = json.dumps(header, separators=(",", ":")).encode()
        weights = struct.pack("<Q", len(packed)) + packed + bytes(end)
    if index is None:
        index = json.dumps({"weight_map": {key: "model.safetensors" for key in shapes or {}}}).encode()
    (ROOT / "checkpoint" / name).write_bytes(text + b"\0" + index + b"\0" + weights)


for folder in ("toml", "safetensors", "checkpoint"):
    (ROOT / folder).mkdir(parents=True, exist_ok=True)

toml("every_kind", """flag = true
integer = 4
number = 1  # an integer serves
text = 'plain'
choice = "post"
integers = [1, 2]
texts = ["a", "b"]
[tree]
x.y = {z = [1.5, -inf, nan]}
""")
toml("overrides", """[[tree]]
name = "lstm"
[[tree]]
name = "mamba"
""", "tree.0.width=64", "tree.mamba.width=[1, 2]", "tree.mamab.width=1", "integer=0x10", "text=a bare string", "new.key=1")
toml("assignments_hostile", "a = 1", "", "=", "a", "a=", "a.b=1", "a..b=1", "'x=1", 'a."b=c".d=2', "a=[1", "a={", "a=1\nb=2",
     "a=2026-01-02", b"a=\xff", "a=" + "." * 99)
toml("unknown_key", "integr = 4\n")
toml("wrong_kind", "integers = [1, 'two']\n")
toml("out_of_range", "number = -0.5\ninteger = 1025\n")
toml("dates", "text = 2026-01-02T03:04:05+01:00\n")
toml("strings", 'text = """\\\n  a \\u00e9 \\U0001F40E "" ""\\""""""\ntexts = [\'\'\'\n\'quotes\'\'\'\'\', "\\t\\\\"]\n')
toml("byte_order_mark", b"\xef\xbb\xbfinteger = 4\r\n")
toml("not_utf8", b"text = '\xc3\x28 \xff'\n")
toml("overlong_utf8", b"text = '\xc0\x80\xed\xa0\x80'\n")
toml("dots", "a." * 40 + "a = 1\n")
toml("brackets", "tree = " + "[" * 40 + "]" * 40 + "\n")
toml("brackets_within", "tree = " + "[" * 30 + "]" * 30 + "\n")
toml("inline_tables", "tree = {a={a={a={a={a.a.a.a=1}}}}}\n")
toml("redefined", "[a]\n[a.b]\n[a]\nc = 1\n")
toml("array_of_tables_clash", "a = []\n[[a]]\nb = 1\n")
toml("numbers", "tree = [0x7fffffffffffffff, -9223372036854775808, 1_000, 1e400, -0.0, 0b11, 0o17, 9223372036854775808]\n")
toml("unclosed", "text = \"\"\"abc\n")
toml("empty", "")

eight = bytes(range(8))
safetensors("one", {"w": tensor("F32", [2], 0, 8)}, eight)
safetensors("two_and_metadata", {"__metadata__": {"a": "b", "é": ""}, "v": tensor("U8", [4], 0, 4), "w": tensor("I16", [2, 1], 4, 8)}, eight)
safetensors("none", b"{}      ")
safetensors("scalar_and_empty", {"s": tensor("F64", [], 0, 8), "e": tensor("BF16", [3, 0], 8, 8)}, eight)
safetensors("misaligned", {"b": tensor("U8", [1], 0, 1), "f": tensor("F32", [1], 1, 5)}, eight[:5])
safetensors("bool", {"w": tensor("BOOL", [4], 0, 4)}, b"\0\1\1\0")
safetensors("bool_of_two", {"w": tensor("BOOL", [4], 0, 4)}, b"\0\1\2\0")
safetensors("header_too_long", {"w": tensor("F32", [2], 0, 8)}, eight, length=1 << 40)
safetensors("header_negative", {}, length=(1 << 64) - 1)
safetensors("header_over_100_mb", {}, length=100_000_001)
safetensors("header_cut", {"w": tensor("F32", [2], 0, 8)}, length=200)
safetensors("data_cut", {"w": tensor("F32", [2], 0, 8)}, eight[:7])
safetensors("data_left_over", {"w": tensor("F32", [2], 0, 8)}, eight + b"x")
safetensors("hole", {"v": tensor("U8", [2], 0, 2), "w": tensor("U8", [4], 4, 8)}, eight)
safetensors("overlap", {"v": tensor("U8", [5], 0, 5), "w": tensor("U8", [4], 4, 8)}, eight)
safetensors("backwards", {"w": tensor("F32", [2], 8, 0)}, eight)
safetensors("size_mismatch", {"w": tensor("F32", [3], 0, 8)}, eight)
safetensors("shape_overflow", {"w": tensor("F32", [1 << 62, 1 << 62], 0, 8)}, eight)
safetensors("shape_overflow_empty", {"w": tensor("F32", [1 << 62, 1 << 62, 0], 0, 0)})
safetensors("shape_huge", {"w": tensor("U8", [1 << 50], 0, 1 << 50)}, eight)
safetensors("shape_negative", {"w": tensor("F32", [-2], 0, 8)}, eight)
safetensors("shape_real", {"w": tensor("F32", [2.0], 0, 8)}, eight)
safetensors("shape_of_many_axes", {"w": tensor("U8", [1] * 65, 0, 1)}, b"x")
safetensors("offsets_huge", {"w": tensor("U8", [1], (1 << 64) - 2, (1 << 64) - 1)}, eight)
safetensors("dtype_unknown", {"w": tensor("F8_E4M3", [8], 0, 8)}, eight)
safetensors("dtype_number", {"w": {"dtype": 3, "shape": [8], "data_offsets": [0, 8]}}, eight)
safetensors("name_twice", b'{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
safetensors("key_unknown", {"w": dict(tensor("U8", [8], 0, 8), strides=[1])}, eight)
safetensors("keys_missing", {"w": {"dtype": "U8"}})
safetensors("metadata_number", {"__metadata__": {"a": 1}})
safetensors("nested", b'{"w":' + b"[" * 1000)
safetensors("not_utf8", b'{"\xff":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
safetensors("surrogate_alone", b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
safetensors("zero_byte", b"{}\0{}")
safetensors("list", b"[]")
(ROOT / "safetensors" / "short").write_bytes(b"abc")

gpt2 = {"model_type": "gpt2", "vocab_size": 3, "n_positions": 4, "n_embd": 4, "n_layer": 1, "n_head": 2, "n_inner": 4}
gpt2_shapes = {"transformer.wte.weight": [3, 4], "transformer.wpe.weight": [4, 4], "transformer.ln_f.weight": [4],
               "transformer.ln_f.bias": [4]}
gpt2_shapes.update({"transformer.h.0." + key: shape for key, shape in {
    "ln_1.weight": [4], "ln_1.bias": [4], "ln_2.weight": [4], "ln_2.bias": [4], "attn.c_attn.weight": [4, 12],
    "attn.c_attn.bias": [12], "attn.c_proj.weight": [4, 4], "attn.c_proj.bias": [4], "mlp.c_fc.weight": [4, 4],
    "mlp.c_fc.bias": [4], "mlp.c_proj.weight": [4, 4], "mlp.c_proj.bias": [4]}.items()})
llama = {"model_type": "llama", "vocab_size": 3, "hidden_size": 4, "intermediate_size": 2, "num_hidden_layers": 1,
         "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True,
         "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
llama_shapes = {"model.embed_tokens.weight": [3, 4], "model.norm.weight": [4]}
llama_shapes.update({"model.layers.0." + key: shape for key, shape in {
    "input_layernorm.weight": [4], "post_attention_layernorm.weight": [4], "self_attn.q_proj.weight": [4, 4],
    "self_attn.k_proj.weight": [2, 4], "self_attn.v_proj.weight": [2, 4], "self_attn.o_proj.weight": [4, 4],
    "mlp.gate_proj.weight": [2, 4], "mlp.up_proj.weight": [2, 4], "mlp.down_proj.weight": [4, 2]}.items()})
mamba = {"model_type": "mamba", "vocab_size": 3, "hidden_size": 4, "intermediate_size": 4, "state_size": 2, "conv_kernel": 2,
         "num_hidden_layers": 1, "time_step_rank": "auto"}
mamba_shapes = {"backbone.embeddings.weight": [3, 4], "backbone.norm_f.weight": [4]}
mamba_shapes.update({"backbone.layers.0." + key: shape for key, shape in {
    "norm.weight": [4], "mixer.in_proj.weight": [8, 4], "mixer.conv1d.weight": [4, 1, 2], "mixer.conv1d.bias": [4],
    "mixer.x_proj.weight": [5, 4], "mixer.dt_proj.weight": [4, 1], "mixer.dt_proj.bias": [4], "mixer.A_log": [4, 2],
    "mixer.D": [4], "mixer.out_proj.weight": [4, 4]}.items()})
rwkv = {"model_type": "rwkv", "vocab_size": 3, "hidden_size": 4, "num_hidden_layers": 1, "intermediate_size": 4}

checkpoint("gpt2", gpt2, gpt2_shapes)
checkpoint("gpt2_bare", gpt2, {key.removeprefix("transformer."): shape for key, shape in gpt2_shapes.items()} |
           {"h.0.attn.bias": [1, 1, 4, 4]})
checkpoint("llama", llama, llama_shapes)
checkpoint("mamba", mamba, mamba_shapes)
checkpoint("mamba_other_family", mamba, llama_shapes)
checkpoint("rwkv_without_weights", rwkv)
checkpoint("sizes_huge", dict(llama, hidden_size=1 << 20, vocab_size=1 << 31, intermediate_size=1 << 24, head_dim=4096,
                              num_attention_heads=4096, num_key_value_heads=4096), llama_shapes)
checkpoint("sizes_negative", dict(gpt2, n_embd=-4), gpt2_shapes)
checkpoint("sizes_beyond_64_bits", dict(gpt2, n_embd=1 << 64), gpt2_shapes)
checkpoint("heads_do_not_divide", dict(gpt2, n_head=3), gpt2_shapes)
checkpoint("kv_heads_do_not_divide", dict(llama, num_attention_heads=3, num_key_value_heads=2, head_dim=2), llama_shapes)
checkpoint("config_cut", json.dumps(llama).encode()[:70], llama_shapes)
checkpoint("config_nested", b'{"model_type": "llama", "rope_scaling": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}", llama_shapes)
checkpoint("config_of_lists", b'{"model_type": "llama", "rope_parameters": ' + b"[" * 300 + b"]" * 300 + b"}", llama_shapes)
checkpoint("infinity", b'{"model_type": "mamba2", "time_step_limit": [0.0, Infinity], "expand": NaN, "x": "-Infinity\\"}')
checkpoint("infinity_tagged", {"model_type": "mamba2", "time_step_limit": [0.0, {"__float__": "Infinity"}]})
checkpoint("infinity_for_a_size", b'{"model_type": "llama", "hidden_size": Infinity}')
checkpoint("index_climbs", llama, llama_shapes, index=b'{"weight_map": {"a": "../../etc/passwd"}}')
checkpoint("index_of_numbers", llama, llama_shapes, index=b'{"weight_map": {"a": 1}}')
checkpoint("index_is_a_list", llama, llama_shapes, index=b'{"weight_map": []}')
checkpoint("types_unknown", {"model_type": "bert"})
checkpoint("type_is_a_number", {"model_type": 7})
checkpoint("jamba_offsets", {"model_type": "jamba", "num_hidden_layers": 3, "attn_layer_period": 1, "attn_layer_offset": 9,
                             "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 2, "hidden_size": 4})
checkpoint("mixtral_without_experts", {"model_type": "mixtral", "num_local_experts": 0})
checkpoint("weights_cut", gpt2, weights=struct.pack("<Q", 200) + b"{")
checkpoint("weights_of_integers", mamba, weights=struct.pack("<Q", 79) +
           b'{"backbone.norm_f.weight":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}    ' + bytes(8))
