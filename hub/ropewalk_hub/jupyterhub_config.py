"""JupyterHub's configuration: our issuer signs in, our proxy and our spawner run elsewhere, and it gets little power.

Settings are read once; addresses come from the supervisor's file or are the cluster's, and secrets from the home or a
mounted Secret. Nobody is an administrator of the hub, not even our administrators: its administrators could make tokens
for other people, which our policy forbids. Not here: how a notebook server is started (``spawner.py``,
``kube_spawner.py``).
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jupyterhub import log

from ropewalk_core import settings as settings_module
from ropewalk_core.settings import Settings
from ropewalk_hub import addresses
from ropewalk_hub.addresses import Addresses
from ropewalk_hub.pages import static
from ropewalk_hub.pages.render import SECTIONS
from ropewalk_hub.platform import HUB_CLIENT_ID
from ropewalk_hub.secrets_store import Secret, SecretsStore

_HERE = Path(__file__).parent
REFRESH_AGE = 20
"""Seconds after which the hub asks our issuer again whether a sign-in still holds; a sign-out reaches it by then."""
NOTEBOOK_CACHE = 20
"""Seconds for which a notebook server believes what the hub said about a visitor; both stay under a minute together."""
ROUTES_AGE = 20
"""Seconds between two looks at the proxy's routes on a cluster, where a new proxy starts without any."""


def configure(config: Any, settings: Settings, where: Addresses, store: SecretsStore) -> None:
    """Write every part of the configuration."""
    _doors(config, settings, where, store)
    _sign_in(config, settings, where, store)
    _service(config, store)
    _state(config, settings, store)
    _look(config)
    if settings.backend == "kube":
        _cluster(config, settings)
    else:
        config.JupyterHub.spawner_class = "ropewalk_hub.spawner.RopewalkSpawner"
    config.Spawner.args = [f"--HubOAuth.cache_max_age={NOTEBOOK_CACHE}"]


def _doors(config: Any, settings: Settings, where: Addresses, store: SecretsStore) -> None:
    door = settings.door
    config.JupyterHub.bind_url = f"http://127.0.0.1:{door.port}"
    config.JupyterHub.public_url = f"{door.origin}/"
    config.JupyterHub.subdomain_host = door.origin
    if door.people_host:
        config.JupyterHub.subdomain_hook = lambda name, domain, kind: f"{name}.{door.people}"
    config.JupyterHub.hub_bind_url = f"http://{where.bind}:{where.hub}"
    config.JupyterHub.hub_connect_url = where.hub_url
    # Only on the platform's own host: with the default, the hub would also answer on people's hosts.
    config.JupyterHub.hub_routespec = f"{door.host}/hub/"
    config.Proxy.extra_routes = {f"{door.host}/": where.platform_url}
    config.ConfigurableHTTPProxy.should_start = False
    config.ConfigurableHTTPProxy.api_url = where.proxy_api_url
    config.ConfigurableHTTPProxy.auth_token = store.text(Secret.PROXY_TOKEN)
    config.JupyterHub.tornado_settings = {
        "cookie_options": {"samesite": "Lax", "secure": door.scheme == "https"},
        "slow_spawn_timeout": 0,
        "log_function": log_request,
    }
    config.JupyterHub.default_url = "/notebooks"


def log_request(handler: Any) -> None:
    """Log a request, but not the platform's own look at the notebooks every few seconds."""
    ours = handler.request.method == "GET" and handler.request.path == "/hub/api/users"
    if not (ours and handler.get_status() == 200):
        log.log_request(handler)


def _sign_in(config: Any, settings: Settings, where: Addresses, store: SecretsStore) -> None:
    origin = settings.door.origin
    ours = config.RopewalkAuthenticator
    config.JupyterHub.authenticator_class = "ropewalk_hub.authenticator.RopewalkAuthenticator"
    ours.issuer = origin
    ours.client_id = HUB_CLIENT_ID
    ours.client_secret = store.text(Secret.HUB_CLIENT)
    ours.oauth_callback_url = f"{origin}/hub/oauth_callback"
    # Browsers use the platform's origin; the hub itself the loopback address, since *.localhost may not resolve here.
    ours.authorize_url = f"{origin}/oidc/authorize"
    ours.end_session_url = f"{origin}/oidc/end-session"
    ours.after_sign_out = f"{origin}/sign-in?signed-out=1"
    ours.token_url = f"{where.platform_url}/oidc/token"
    ours.userdata_url = f"{where.platform_url}/oidc/userinfo"
    ours.jwks_url = f"{where.platform_url}/oidc/jwks"
    ours.scope = ["openid", "profile", "offline_access"]
    ours.username_claim = "preferred_username"
    ours.basic_auth = True
    ours.enable_pkce = True
    ours.any_allow_config = True  # whom to let in is the issuer's word, see check_allowed
    config.Authenticator.auto_login = True
    config.Authenticator.enable_auth_state = True
    config.Authenticator.auth_refresh_age = REFRESH_AGE
    config.Authenticator.refresh_pre_spawn = True
    config.JupyterHub.oauth_require_pkce = True


def _service(config: Any, store: SecretsStore) -> None:
    config.JupyterHub.services = [{"name": "ropewalk", "api_token": store.text(Secret.PLATFORM_TOKEN)}]
    config.JupyterHub.load_roles = [
        {
            "name": "ropewalk-platform",
            "description": "The platform starts and stops servers and ends what a sign-out must end",
            "scopes": ["admin:users", "admin:servers", "tokens", "read:hub"],
            "services": ["ropewalk"],
        },
        {
            # The hub's own, less the right to make tokens: one would outlive every sign-out.
            "name": "user",
            "scopes": [f"{one}!user" for one in ("read:users", "users:activity", "servers", "access:servers")],
        },
    ]


def _state(config: Any, settings: Settings, store: SecretsStore) -> None:
    folder = settings.home / "hub"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.JupyterHub.db_url = f"sqlite:///{folder / 'jupyterhub.sqlite'}"
    config.JupyterHub.cookie_secret = bytes.fromhex(store.text(Secret.HUB_COOKIE))
    config.CryptKeeper.keys = [bytes.fromhex(store.text(Secret.HUB_CRYPT))]
    # Notebook servers outlive the hub; the supervisor ends them at a regular stop.
    config.JupyterHub.cleanup_servers = False
    config.JupyterHub.cleanup_proxy = False
    config.JupyterHub.allow_named_servers = False
    config.JupyterHub.pid_file = ""


def _cluster(config: Any, settings: Settings) -> None:
    """Start pods; and look often whether a proxy that was moved to another node still has its routes."""
    from ropewalk_hub import kube_spawner  # the cluster's client takes a second to load, which only a cluster needs

    kube_spawner.configure(config, settings)
    config.JupyterHub.last_activity_interval = ROUTES_AGE


def _look(config: Any) -> None:
    """Let the hub's few pages be ours: our frame and style sheet around templates that have the hub's names.

    Values are functions of the hub's user, which is how the hub takes them.
    """
    config.JupyterHub.template_paths = [str(_HERE / "hub_pages"), str(_HERE / "pages" / "templates")]
    config.JupyterHub.template_vars = {
        "asset": lambda user: static.address,
        "sections": SECTIONS,
        "actor": lambda user: SimpleNamespace(account=user.name, administrator=False) if user else None,
        "path": "/hub",
        "cursor": "",
    }


if "get_config" in globals():  # JupyterHub runs this file with it
    _settings = settings_module.load()
    configure(globals()["get_config"](), _settings, addresses.read(_settings), SecretsStore(_settings))
