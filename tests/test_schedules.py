from convexp.schedules import constant, exponential


def test_constant() -> None:
    assert [constant(epoch) for epoch in range(3)] == [1, 1, 1]


def test_exponential_multiplies_after_each_epoch() -> None:
    assert [exponential(epoch, decay=0.5) for epoch in range(4)] == [1, 0.5, 0.25, 0.125]
