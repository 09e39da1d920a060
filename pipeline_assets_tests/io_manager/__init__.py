"""The IO manager through `dg.materialize`, with real tables."""
