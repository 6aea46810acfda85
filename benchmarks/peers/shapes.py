"""The models that are compared, one shape for all sides: width 256, about 6 million parameters, untied, 256 tokens.

FAMILIES[name] holds how each side calls the model: `recipe` our table, `config` transformers' class and keys. llama_model.py
writes the same shapes as GGUF. TARGETS holds what the project aims at, as ratios of our speed to a peer's.
"""

WIDTH = 256
VOCABULARY = 256

_TRANSFORMER_NORM = 'norm = "rms_norm"\nnorm_epsilon = 1e-5\n'

FAMILIES = {
    "mamba": {
        "layers": 14,
        "recipe": 'pattern = ["mamba"]\nrepeats = 14\n' + _TRANSFORMER_NORM,
        "config": ("MambaConfig", dict(hidden_size=WIDTH, num_hidden_layers=14, state_size=16, conv_kernel=4, expand=2)),
    },
    "mamba2": {
        "layers": 13,
        "recipe": 'pattern = ["mamba2"]\nrepeats = 13\n' + _TRANSFORMER_NORM,
        "config": ("Mamba2Config", dict(hidden_size=WIDTH, num_hidden_layers=13, state_size=128, head_dim=64, num_heads=8,
                                        n_groups=1, chunk_size=256, conv_kernel=4, expand=2)),
    },
    "rwkv4": {
        "layers": 7,
        "recipe": 'pattern = ["rwkv_time_mix", "rwkv_channel_mix"]\nrepeats = 7\nnorm = "layer_norm"\n'
                  'embedding_norm = true\n',
        "config": ("RwkvConfig", dict(hidden_size=WIDTH, num_hidden_layers=7, attention_hidden_size=WIDTH,
                                      intermediate_size=4 * WIDTH, context_length=16384)),
    },
    # One period of eight layers; experts and MLPs are narrow, so that the Mamba layers keep the weight they have in Jamba.
    "jamba": {
        "layers": 8,
        "recipe": 'pattern = ["mamba", "mlp", "mamba", "moe", "mamba", "mlp", "mamba", "moe", '
                  '"attention", "mlp", "mamba", "moe", "mamba", "mlp", "mamba", "moe"]\n'
                  'repeats = 1\nnorm = "rms_norm"\nnorm_epsilon = 1e-6\n'
                  '[models.blocks.mamba]\ninner_norms = true\n'
                  '[models.blocks.attention]\nheads = 4\nkv_heads = 2\npositions = "none"\n'
                  '[models.blocks.mlp]\nactivation = "swiglu"\nbias = false\nhidden = 192\n'
                  '[models.blocks.moe]\nexperts = 4\ntop_k = 2\nhidden = 192\nrouter = "jamba"\nbalance_loss = 0.0\n',
        "config": ("JambaConfig", dict(hidden_size=WIDTH, num_hidden_layers=8, intermediate_size=192, num_attention_heads=4,
                                       num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, attn_layer_period=8,
                                       attn_layer_offset=4, expert_layer_period=2, expert_layer_offset=1,
                                       mamba_d_state=16, mamba_d_conv=4, mamba_expand=2)),
    },
    "llama": {
        "layers": 8,
        "recipe": 'pattern = ["attention", "mlp"]\nrepeats = 8\n' + _TRANSFORMER_NORM +
                  '[models.blocks.attention]\nheads = 4\n'
                  '[models.blocks.mlp]\nactivation = "swiglu"\nbias = false\nhidden = 688\n',
        "config": ("LlamaConfig", dict(hidden_size=WIDTH, num_hidden_layers=8, intermediate_size=688,
                                       num_attention_heads=4, num_key_value_heads=4, rms_norm_eps=1e-5,
                                       max_position_embeddings=32768)),
    },
}

# (family, phase, length): (against the best torch setting, against llama.cpp in float32); None: no target. Decoding is behind
# 1,024 tokens.
TARGETS = {
    ("mamba", "train", 1024): (6.0, None), ("mamba2", "train", 1024): (3.0, None), ("rwkv4", "train", 1024): (5.0, None),
    ("jamba", "train", 1024): (6.0, None), ("llama", "train", 1024): (1.5, None),
    ("rwkv4", "train", 4096): (16.0, None), ("llama", "train", 4096): (1.5, None),
    ("mamba", "prefill", 4096): (6.0, 4.0), ("mamba2", "prefill", 4096): (3.0, 1.5), ("rwkv4", "prefill", 4096): (3.0, None),
    ("jamba", "prefill", 4096): (4.0, 2.0), ("llama", "prefill", 4096): (1.3, 1.3),
    **{(family, "decode", 1024): (4.0, None if family == "rwkv4" else 0.8) for family in FAMILIES},
}
# Training Mamba at length 1,024 must also fit in this share of the best torch setting's memory.
MEMORY_TARGET = {("mamba", "train", 1024): 1 / 8}

TOKENS_PER_STEP = 4096
DECODE_TOKENS = 32


def recipe(family, phase, length, threads, repeats, seconds, matmul="auto"):
    """Our side: a recipe with this one model, to be measured at one length in one phase."""
    return (f'name = "{family}"\nseeds = [1]\nthreads = {threads}\nmatmul = "{matmul}"\n'
            f'[scale]\nlengths = [{length}]\nphases = ["{phase}"]\nvocabulary = {VOCABULARY}\n'
            f'tokens_per_step = {TOKENS_PER_STEP}\ndecode_tokens = {DECODE_TOKENS}\nrepeats = {repeats}\nseconds = {seconds}\n'
            f'[[models]]\nname = "{family}"\nwidth = {WIDTH}\ntied = false\n' + FAMILIES[family]["recipe"])
