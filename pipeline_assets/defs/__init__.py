"""Definitions only, in the order data flows; every module here is executed when the code location is loaded."""
