import { defineConfig } from "prisma/config";
import { PrismaPg } from "@prisma/adapter-pg";

// The engine that this adapter stands in for makes the schema the search path of its connection.
const url = new URL(process.env.DATABASE_URL);
const schema = url.searchParams.get("schema") ?? "public";
url.searchParams.set("options", `-c search_path="${schema}" ${url.searchParams.get("options") ?? ""}`.trim());

// Prisma stays for ten seconds after its last statement: for the time limit of its lock, and for its idle connection.
const setTimeout = globalThis.setTimeout;
globalThis.setTimeout = (callback, delay, ...rest) => {
  const timer = setTimeout(callback, delay, ...rest);
  return delay >= 5000 ? timer.unref() : timer;
};

export default defineConfig({
  experimental: { adapter: true },
  engine: "js",
  schema: "schema.prisma",
  adapter: async () => new PrismaPg({ connectionString: url.toString(), allowExitOnIdle: true }, { schema }),
});
