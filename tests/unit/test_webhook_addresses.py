"""Addresses that webhooks reach, in every spelling."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_workers.webhooks.addresses import AddressRefused, Reachable, literal

PUBLIC = ["8.8.8.8", "93.184.216.34", "223.5.5.5", "2400:3200::1", "2606:4700:4700::1111"]
REFUSED = [
    "", "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "255.255.255.255", "::", "::1",
    "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::808:808", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
    "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "localhost",
    "127.1", "0x7f000001", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    Reachable().check(address)


@pytest.mark.parametrize("address", REFUSED)
def test_others_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        Reachable().check(address)


@given(st.ip_addresses())
def test_private_addresses_are_never_reached(address: Any) -> None:
    if address.is_global and not address.is_multicast and not address.is_reserved:
        return
    with pytest.raises(AddressRefused):
        Reachable().check(str(address))


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:", "64:ff9b::"]))
def test_no_ipv4_address_comes_through_in_another_form(address: Any, prefix: str) -> None:
    with pytest.raises(AddressRefused):
        Reachable().check(f"{prefix}{address}")


def test_the_settings_allow_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    production = {"env": "production", "redis_url": "redis://redis:6379/0"}
    reachable = Reachable.from_settings(
        Settings.load(**production, webhook_networks="10.1.0.0/16, fd00::/8")
    )
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "8.8.8.8"):
        reachable.check(address)
    for address in ("10.2.0.1", "127.0.0.1", "::1", "fe80::1"):
        with pytest.raises(AddressRefused):
            reachable.check(address)


def test_outside_production_this_machine_may_be_an_endpoint() -> None:
    reachable = Reachable.from_settings(Settings.load(env="test"))
    reachable.check("127.0.0.1")
    reachable.check("::1")
    with pytest.raises(AddressRefused):
        reachable.check("10.0.0.1")


@pytest.mark.parametrize("networks", ["10.0.0.0/33", "office", "10.0.0.1/8"])
def test_a_wrong_network_is_refused_by_name_of_the_setting(networks: str) -> None:
    with pytest.raises(SettingsError, match="DINGRELAY_WEBHOOK_NETWORKS"):
        Settings.load(env="test", webhook_networks=networks)


def test_a_host_that_is_an_address_is_known() -> None:
    assert literal("127.0.0.1") == "127.0.0.1"
    assert literal("[::1]") == "::1"
    assert literal("example.com") is None
    assert ipaddress.ip_address(literal("[2400:3200::1]") or "").version == 6
