"""What a run does: ``task=<name>`` chooses ``conf/task/<name>.yaml``, whose target lies here."""
