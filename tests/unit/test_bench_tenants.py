"""What the API server tells of its open watches, as the bench counts them."""

from __future__ import annotations

from bench.tenants import watches


def gauge(count: str, resource: str, scope: str, *, verb: str = "WATCH") -> str:
    labels = f'component="apiserver",group="",resource="{resource}",scope="{scope}",subresource=""'
    return f'apiserver_longrunning_requests{{{labels},verb="{verb}",version="v1"}} {count}\n'


def test_watches_are_counted_and_those_of_kubelets_are_not() -> None:
    told = "# TYPE apiserver_longrunning_requests gauge\n" + "".join(
        (
            gauge("8", "configmaps", "cluster"),
            gauge("31", "configmaps", "resource"),  # a kubelet's, by name
            gauge("2", "pods", "namespace"),
            gauge("1", "pods", "resource"),
            gauge("3", "pods", "resource", verb="CONNECT"),
            gauge("1e+01", "deployments", "cluster"),
            'apiserver_current_inflight_requests{request_kind="readOnly"} 1\n',
        )
    )
    assert watches(told) == {
        "configmaps in one cluster": 8,
        "pods in one namespace": 2,
        "pods in one resource": 1,
        "deployments in one cluster": 10,
    }
