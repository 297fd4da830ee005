-- A schema with a piece of everything that a description has to hold.
CREATE SCHEMA organization;
CREATE EXTENSION pg_trgm;
CREATE TYPE public.colour AS ENUM ('red', 'green');
ALTER TYPE public.colour ADD VALUE 'orange' BEFORE 'green';
CREATE TYPE public.span AS RANGE (subtype = int4);
CREATE TYPE public.pair AS (a int, b text);
CREATE DOMAIN public.price AS numeric(10, 2) CHECK (VALUE >= 0);

CREATE TABLE organization.member (
  id serial PRIMARY KEY,
  dropped int,
  name text NOT NULL,
  email varchar(200) COLLATE "C" UNIQUE,
  invited_by int REFERENCES organization.member (id) ON DELETE SET NULL
);
ALTER TABLE organization.member DROP COLUMN dropped;

CREATE TABLE public.item (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name varchar(200) NOT NULL,
  status varchar(20) NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'sold', 'gone')),
  price public.price,
  colour public.colour DEFAULT 'red',
  lower_name text GENERATED ALWAYS AS (lower(name)) STORED,
  tags text[] DEFAULT ARRAY['a'::text, 'b'::text],
  details jsonb DEFAULT '{}',
  seller int REFERENCES organization.member (id),
  CONSTRAINT item_tags CHECK (name <> ALL (ARRAY['x', 'y']) AND (status = 'new' OR price IS NOT NULL))
);
CREATE INDEX item_name ON public.item USING gin (name gin_trgm_ops) WHERE status IN ('new', 'sold');
CREATE FUNCTION public.touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- (a)::text stays as it is here
  RETURN NEW;
END $$;
CREATE TRIGGER item_touched BEFORE UPDATE ON public.item FOR EACH ROW WHEN (OLD.status IN ('new', 'sold')) EXECUTE FUNCTION public.touched();
CREATE VIEW public.open_item AS SELECT i.id, i.name, m.name AS seller FROM public.item i
  LEFT JOIN organization.member m ON m.id = i.seller WHERE i.status IN ('new', 'sold') AND i.name LIKE 'a%';
CREATE MATERIALIZED VIEW public.counted AS SELECT status, count(*) AS items FROM public.item GROUP BY status;
CREATE UNIQUE INDEX counted_status ON public.counted (status);
CREATE RULE no_delete AS ON DELETE TO public.open_item DO INSTEAD NOTHING;

CREATE TABLE public.sale (id int NOT NULL, day date NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE public.sale_2026 PARTITION OF public.sale FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE public.sale_2027 PARTITION OF public.sale FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
CREATE INDEX sale_day ON public.sale (day);

CREATE TABLE public.private (owner text DEFAULT current_user, note text);
ALTER TABLE public.private ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.private USING (owner IN ('a', current_user)) WITH CHECK (note <> '');
CREATE UNLOGGED TABLE public.cache (key text PRIMARY KEY, value text) WITH (fillfactor = 80);
CREATE AGGREGATE public.total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE SEQUENCE public.numbers AS smallint INCREMENT BY 5 CYCLE;
CREATE PROCEDURE public.clean() LANGUAGE sql AS 'DELETE FROM public.cache';
