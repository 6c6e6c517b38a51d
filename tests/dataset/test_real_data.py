from twinspire import dataset


def test_clicks_of_a_real_shop(real_data):
    data = dataset.read(real_data("bestbuy"), max_bad_share=0, require_interactions=True)
    assert data.items.height == 437
    assert data.users is not None
    assert data.users.height == 26_267
    assert data.report.log is not None
    assert data.report.log.events["click"] == 29_316


def test_a_real_catalogue_without_a_log(real_data):
    data = dataset.read(real_data("icecat"), max_bad_share=0)
    assert data.items.height == 19_406
    assert data.judgements is not None
    assert data.judgements.height == 3_668
    assert data.interactions is None
    assert data.users is None
