"""The engine's command line: a module per command or group of commands, put together in :mod:`bench.cli.app`."""
