"""The commit protocol, explored: real decisions over tables in memory, whose every interleaving can be had."""
