"""The vocabulary: frozen values and pure functions. In: plain values. Out: plain values, digests, wire bytes."""
