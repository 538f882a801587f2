-- Run by the image of PostgreSQL on a new volume: a role that migrates and owns the tables, and a role for the service.
-- `oo-ml db grant-service oo_ml_service` gives the second role its rights.
\getenv owner_password OWNER_PASSWORD
\getenv service_password SERVICE_PASSWORD
CREATE ROLE oo_ml_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE oo_ml_service LOGIN PASSWORD :'service_password';
REVOKE ALL ON DATABASE oo_ml FROM PUBLIC;
GRANT CONNECT, CREATE ON DATABASE oo_ml TO oo_ml_owner;
GRANT CONNECT ON DATABASE oo_ml TO oo_ml_service;
