"""Measures llama.cpp in float32 through llama-cpp-python's C interface, in a process of its own; prints one JSON line.

Usage: llama_peer.py FAMILY prefill|decode LENGTH [--threads 2] [--repeats 5] [--seconds 30] [--batch 512]
Prefill reads LENGTH tokens in batches of `--batch` and asks for the last one's logits; decoding is greedy, behind LENGTH tokens.
"""
import argparse
import ctypes
import json
import os
import resource
import tempfile
import time

import llama_cpp
import numpy as np

import llama_model
import shapes


class Model:
    def __init__(self, family, context, threads, batch):
        folder = tempfile.mkdtemp(prefix="hippodrome-gguf-")
        self.path = os.path.join(folder, f"{family}.gguf")
        self.tensors = llama_model.WRITERS[family](self.path)
        quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self.keep = quiet  # the library holds the pointer
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(self.path.encode(), llama_cpp.llama_model_default_params())
        os.unlink(self.path)
        os.rmdir(folder)
        if not self.model:
            raise SystemExit(f"llama.cpp does not read the {family} file")
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = context, max(batch, 1), max(batch, 1)
        parameters.n_seq_max = 1
        parameters.n_threads = parameters.n_threads_batch = threads
        # float32 throughout, as on the other sides: flash attention would take keys and values to float16.
        parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot run the {family} model")
        self.size = batch
        self.batch = llama_cpp.llama_batch_init(batch, 0, 1)
        self.position = 0

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        self.position = 0

    def feed(self, tokens):
        """Reads tokens behind what was read; afterwards the logits of the last are there."""
        for begin in range(0, len(tokens), self.size):
            part = tokens[begin:begin + self.size]
            self.batch.n_tokens = len(part)
            for i, token in enumerate(part):
                self.batch.token[i] = token
                self.batch.pos[i] = self.position + i
                self.batch.n_seq_id[i] = 1
                self.batch.seq_id[i][0] = 0
                self.batch.logits[i] = begin + i + 1 == len(tokens)
            if llama_cpp.llama_decode(self.context, self.batch) != 0:
                raise SystemExit("llama_decode failed")
            self.position += len(part)

    def logits(self):
        """Of the last token read, a view of llama.cpp's own memory."""
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, shape=(shapes.VOCABULARY,))

    def best(self):
        return int(np.argmax(self.logits()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("family", choices=llama_model.WRITERS)
    parser.add_argument("phase", choices=["prefill", "decode"])
    parser.add_argument("length", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--cap", type=float, help="without effect: a sample takes seconds")
    parser.add_argument("--batch", type=int, default=512)
    arguments = parser.parse_args()
    room = arguments.length + (arguments.repeats + 2) * shapes.DECODE_TOKENS
    model = Model(arguments.family, room, arguments.threads, arguments.batch)
    tokens = np.random.default_rng(1).integers(shapes.VOCABULARY, size=arguments.length).tolist()
    if arguments.phase == "prefill":
        def work():
            model.clear()
            model.feed(tokens)
            return model.best()
        per_sample = arguments.length
    else:
        model.feed(tokens)

        def work():
            for _ in range(shapes.DECODE_TOKENS):
                model.feed([model.best()])
        per_sample = shapes.DECODE_TOKENS
    start = time.perf_counter()
    work()
    warm_up = time.perf_counter() - start
    samples, start = [], time.perf_counter()
    while len(samples) < arguments.repeats and (not samples or time.perf_counter() - start < arguments.seconds):
        begin = time.perf_counter()
        work()
        samples.append(time.perf_counter() - begin)
    print(json.dumps({"parameters": llama_cpp.llama_model_n_params(model.model), "tokens": per_sample,
                      "samples_seconds": samples, "warm_up_seconds": warm_up,
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
