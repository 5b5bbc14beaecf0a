"""Signers: the only place where private keys are. In: digests. Out: checked signatures."""
