"""The text of dovecot.conf, in the two dialects that are in use: that of 2.3 and that of 2.4."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Accounts:
    """The system accounts Dovecot runs under.

    Attributes:
        internal: User of its unprivileged processes.
        login: User of the processes that talk to clients before they log in.
        group: Group of the internal user.
        mail_uid: User number of the processes that read mail, and owner of the mail.
        mail_gid: Group number of the same.
    """

    internal: str
    login: str
    group: str
    mail_uid: int
    mail_gid: int


def choose_accounts() -> Accounts:
    """Choose the accounts: ourselves for everything; as root those of the packages, for it serves no mail as root."""
    if os.geteuid() != 0:
        me = pwd.getpwuid(os.geteuid())
        return Accounts(me.pw_name, me.pw_name, grp.getgrgid(os.getegid()).gr_name, os.geteuid(), os.getegid())
    nobody = pwd.getpwnam("nobody")
    internal = _account("dovecot") or nobody
    login = _account("dovenull") or nobody
    group = grp.getgrgid(internal.pw_gid).gr_name
    return Accounts(internal.pw_name, login.pw_name, group, nobody.pw_uid, nobody.pw_gid)


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


@dataclass(frozen=True, slots=True)
class Settings:
    """What one server is started with.

    Attributes:
        version: Dovecot's version, such as (2, 3, 19).
        directory: Everything the server writes goes below it.
        port: Port for plain text and STARTTLS.
        tls_port: Port for TLS from the first byte.
        password: The password of every user.
        accounts: The system accounts to run under.
        compress: Whether COMPRESS=DEFLATE is offered; Dovecot 2.4 always does.
        max_connections_per_user: More are refused at login.
        extra: Lines added at the end, in the dialect of this version.
    """

    version: tuple[int, ...]
    directory: Path
    port: int
    tls_port: int
    password: str
    accounts: Accounts
    compress: bool
    max_connections_per_user: int
    extra: str


def configuration(settings: Settings) -> str:
    """Give the text of dovecot.conf."""
    dialect = _dialect_2_4(settings) if settings.version >= (2, 4) else _dialect_2_3(settings)
    return dialect + _common(settings) + settings.extra + "\n"


def _common(settings: Settings) -> str:
    accounts, directory = settings.accounts, settings.directory
    # Nothing is chrooted, for only root may do that. No fsync: the mail lives as long as the test.
    # anvil-auth-penalty is closed so that a wrong password costs no waiting.
    unchrooted = "".join(f"service {name} {{\n  chroot =\n}}\n" for name in ("anvil", "stats", "imap-urlauth-login"))
    # As root, the processes that read mail run as nobody; the group lets them reach the sockets of the others.
    extra_groups = f"  extra_groups = {accounts.group}\n" if os.geteuid() == 0 else ""
    # One process takes the logins of all clients.
    many = "restart_request_count = unlimited" if settings.version >= (2, 4) else "service_count = 0"
    return f"""
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
instance_name = imapipe-test
protocols = imap
listen = 127.0.0.1
default_internal_user = {accounts.internal}
default_internal_group = {accounts.group}
default_login_user = {accounts.login}
first_valid_uid = 1
first_valid_gid = 1
mail_uid = {accounts.mail_uid}
mail_gid = {accounts.mail_gid}
mail_fsync = never
auth_mechanisms = plain login
auth_failure_delay = 0
default_process_limit = 1000
default_client_limit = 10000
ssl = yes
{unchrooted}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  chroot =
  {many}
  inet_listener imap {{
    port = {settings.port}
  }}
  inet_listener imaps {{
    port = {settings.tls_port}
    ssl = yes
  }}
}}
service imap {{
{extra_groups}  process_limit = 4000
}}
protocol imap {{
  mail_max_userip_connections = {settings.max_connections_per_user}
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
"""


def _dialect_2_3(settings: Settings) -> str:
    directory = settings.directory
    compress = "mail_plugins = zlib\nprotocol imap {\n  mail_plugins = zlib imap_zlib\n}\n" if settings.compress else ""
    return f"""\
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
maildir_very_dirty_syncs = yes
ssl_cert = <{directory}/certificate.pem
ssl_key = <{directory}/key.pem
{compress}passdb {{
  driver = static
  args = password={settings.password}
}}
userdb {{
  driver = static
  args = uid={settings.accounts.mail_uid} gid={settings.accounts.mail_gid} home={directory}/home/%u
}}
"""


def _dialect_2_4(settings: Settings) -> str:
    directory = settings.directory
    version = ".".join(map(str, settings.version[:3]))
    return f"""\
dovecot_config_version = {version}
dovecot_storage_version = {version}
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
maildir_very_dirty_syncs = yes
ssl_server_cert_file = {directory}/certificate.pem
ssl_server_key_file = {directory}/key.pem
passdb static {{
  password = {settings.password}
}}
userdb static {{
  fields {{
    uid = {settings.accounts.mail_uid}
    gid = {settings.accounts.mail_gid}
    home = {directory}/home/%{{user}}
  }}
}}
"""
