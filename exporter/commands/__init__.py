"""The commands of ``tcp-exporter``, one file each: from parsed options to an exit code."""
