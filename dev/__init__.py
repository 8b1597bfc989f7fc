"""What people run in a checkout: the environment, ``make run`` and ``make demo``. Not installed."""
