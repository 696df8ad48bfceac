"""
Makes Superset ready: its tables, its roles, the account `admin`, and our database, datasets, charts and dashboard. Each run ends in the same state:
changes to `admin`'s password and to our assets are overwritten by what the environment and the folder `assets` say; others' charts stay.
SUPERSET_SECRET_KEY, SUPERSET_DATABASE_URL, SUPERSET_ADMIN_PASSWORD, GOLD_DATABASE_URL.
"""
import os
from pathlib import Path

from sqlalchemy.engine import make_url

ASSETS = Path(__file__).parent / "assets"
DATABASE = "databases/Voltlake_gold.yaml"


def read_assets(gold):
    """Contents by path, as in a zip file that Superset exports, with the password masked as there: it goes beside them."""
    from superset.constants import PASSWORD_MASK

    contents = {path.relative_to(ASSETS).as_posix(): path.read_text() for path in sorted(ASSETS.rglob("*.yaml"))}
    address = gold.set(password=PASSWORD_MASK).render_as_string(hide_password=False)
    contents[DATABASE] = contents[DATABASE].replace("${GOLD_DATABASE_URL}", address)
    return contents


def ensure_admin(security_manager, password):
    admin = security_manager.find_user(username="admin")
    if admin is None:
        role = security_manager.find_role("Admin")
        security_manager.add_user("admin", "Voltlake", "Admin", "admin@localhost", role, password=password)
        return security_manager.find_user(username="admin")
    security_manager.reset_password(admin.id, password)
    return admin


def main():
    password = os.environ["SUPERSET_ADMIN_PASSWORD"]
    gold = make_url(os.environ["GOLD_DATABASE_URL"])

    from superset.cli.main import superset

    superset.main(args=["db", "upgrade"], standalone_mode=False)
    superset.main(args=["init"], standalone_mode=False)

    from superset.app import create_app

    with create_app().app_context():
        from superset import security_manager
        from superset.commands.importers.v1.assets import ImportAssetsCommand
        from superset.utils.core import override_user

        admin = ensure_admin(security_manager, password)
        with override_user(admin):
            ImportAssetsCommand(read_assets(gold), passwords={DATABASE: gold.password}).run()
    print("superset is ready: the dashboard is Tesla Fleet Dashboard, the account is admin", flush=True)


if __name__ == "__main__":
    main()
