"""Measures one model of transformers or mambapy in one phase, in a process of its own; prints one JSON line.

Usage: torch_peer.py FAMILY PHASE LENGTH --setting transformers|mambapy_scan|mambapy|compiled [--threads 2] [--repeats 5] [--seconds 30]
  transformers  as the library comes
  mambapy_scan  transformers' Mamba and Jamba with `use_mambapy`: a parallel scan of plain PyTorch operations
  mambapy       the package's Mamba between an embedding and a head, with the same scan and its own step (the package's language
                model cannot be imported without mamba_ssm, which needs a GPU)
  compiled      transformers through torch.compile
"""
import argparse
import json
import os
import resource
import threading
import time

import torch

import shapes


class MambapyModel(torch.nn.Module):
    """As mambapy.lm.LM, whose import of the package's Mamba-2 fails without mamba_ssm."""

    def __init__(self):
        from mambapy.mamba import Mamba, MambaConfig, RMSNorm
        super().__init__()
        self.config = MambaConfig(d_model=shapes.WIDTH, n_layers=shapes.FAMILIES["mamba"]["layers"])
        self.embedding = torch.nn.Embedding(shapes.VOCABULARY, shapes.WIDTH)
        self.mamba = Mamba(self.config)
        self.norm_f = RMSNorm(shapes.WIDTH)
        self.lm_head = torch.nn.Linear(shapes.WIDTH, shapes.VOCABULARY, bias=False)

    def forward(self, tokens):
        return self.lm_head(self.norm_f(self.mamba(self.embedding(tokens))))


def mambapy_model(family):
    if family != "mamba":
        raise SystemExit(f"mambapy has no {family} that runs on a CPU")
    return MambapyModel()


def transformers_model(family, mambapy_scan):
    import transformers
    name, keys = shapes.FAMILIES[family]["config"]
    keys = dict(keys, vocab_size=shapes.VOCABULARY, tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    if mambapy_scan:
        keys["use_mambapy"] = True
    return transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**keys))


def logits_of(output):
    return output.logits if hasattr(output, "logits") else output


def training(model, length):
    rows = max(1, shapes.TOKENS_PER_STEP // length)
    tokens = torch.randint(shapes.VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))
    labels = tokens.roll(-1, 1).flatten()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=True)
    model.train()

    def step():
        optimiser.zero_grad(set_to_none=True)
        kwargs = {} if isinstance(model, MambapyModel) else {"use_cache": False}
        logits = logits_of(model(tokens, **kwargs))
        torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return step, rows * length


def prefill(model, length):
    tokens = torch.randint(shapes.VOCABULARY, (1, length), generator=torch.Generator().manual_seed(1))
    model.eval()
    own = isinstance(model, MambapyModel)

    @torch.no_grad()
    def step():
        if own:
            return model(tokens)[:, -1].argmax(-1)
        return model(tokens, use_cache=True, logits_to_keep=1).logits.argmax(-1)

    @torch.no_grad()
    def step_without_keeping():  # of models that do not know `logits_to_keep`
        return model(tokens, use_cache=True).logits[:, -1].argmax(-1)
    try:
        if not own:
            with torch.no_grad():
                model(tokens[:, :2], use_cache=True, logits_to_keep=1)
        return step, length
    except TypeError:
        return step_without_keeping, length


def decode(model, length):
    """Greedy decoding with a cache, through the model's own step rather than generate(), which would only add to it."""
    model.eval()
    prompt = torch.randint(shapes.VOCABULARY, (1, length), generator=torch.Generator().manual_seed(1))
    if isinstance(model, MambapyModel):
        layers, inner = model.config.n_layers, model.config.d_inner
        caches = [(None, torch.zeros(1, inner, model.config.d_conv - 1)) for _ in range(layers)]
        state = {"token": prompt[:, -1], "caches": caches}

        @torch.no_grad()
        def steps():
            for _ in range(shapes.DECODE_TOKENS):
                x, state["caches"] = model.mamba.step(model.embedding(state["token"]), state["caches"])
                state["token"] = model.lm_head(model.norm_f(x)).argmax(-1)
        return steps, shapes.DECODE_TOKENS

    # Rwkv calls its cache `state`, Mamba `cache_params`, attention and Jamba `past_key_values`.
    with torch.no_grad():
        output = model(prompt, use_cache=True)
    key = {"state": "state", "cache_params": "cache_params"}
    name = next((k for k in key if getattr(output, k, None) is not None), "past_key_values")
    state = {"token": output.logits[:, -1:].argmax(-1), "cache": getattr(output, name)}

    @torch.no_grad()
    def steps():
        for _ in range(shapes.DECODE_TOKENS):
            output = model(state["token"], use_cache=True, **{name: state["cache"]})
            state["cache"] = getattr(output, name)
            state["token"] = output.logits[:, -1:].argmax(-1)
    return steps, shapes.DECODE_TOKENS


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("family", choices=shapes.FAMILIES)
    parser.add_argument("phase", choices=["train", "prefill", "decode"])
    parser.add_argument("length", type=int)
    parser.add_argument("--setting", default="transformers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--cap", type=float, default=60.0, help="seconds after which a first sample is given up")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    model = (mambapy_model(arguments.family) if arguments.setting == "mambapy" else
             transformers_model(arguments.family, arguments.setting == "mambapy_scan"))
    parameters = sum(p.numel() for p in model.parameters())
    if arguments.setting == "compiled":
        model.forward = torch.compile(model.forward)
    phase = {"train": training, "prefill": prefill, "decode": decode}[arguments.phase]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work, tokens = phase(model, arguments.length)

    def give_up():
        print(json.dumps({"parameters": parameters, "tokens": tokens, "samples_seconds": [], "at_least_seconds": arguments.cap}),
              flush=True)
        os._exit(0)
    start = time.perf_counter()
    work()  # warm-up: allocations, caches, compilation
    warm_up = time.perf_counter() - start
    cap = threading.Timer(arguments.cap, give_up)
    cap.start()
    samples, start = [], time.perf_counter()
    while len(samples) < arguments.repeats and (not samples or time.perf_counter() - start < arguments.seconds):
        begin = time.perf_counter()
        work()
        samples.append(time.perf_counter() - begin)
        cap.cancel()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"parameters": parameters, "tokens": tokens, "samples_seconds": samples, "warm_up_seconds": warm_up,
                      "peak_bytes": peak * 1024, "rest_bytes": before * 1024}))


if __name__ == "__main__":
    main()
