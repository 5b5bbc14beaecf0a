"""Reporting upstream: envelopes, adoption and receipts as pure decisions; sinks do the talking."""
