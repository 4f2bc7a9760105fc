from timm_lp.bench import cases, flags, measure, modes


def test_the_flags_offer_what_there_is() -> None:
    """Flags are read before torch is imported, which the tables need."""
    assert flags.SUITES == (*cases.SUITES,)
    assert flags.FORMATS == (*modes.FORMATS,)
    assert flags.DTYPES == (*modes.DTYPES,)
    assert flags.CLOCKS == (*measure.CLOCKS,)
