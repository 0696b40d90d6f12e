"""Programs that measure speed, as ratios within one run. Nothing imports them but their tests."""
