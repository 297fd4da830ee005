import { defineConfig } from "prisma/config";
import { PrismaPg } from "@prisma/adapter-pg";

// The engine that this adapter stands in for makes the schema the search path of its connection.
const url = new URL(process.env.DATABASE_URL);
const schema = url.searchParams.get("schema") ?? "public";
url.searchParams.set("options", `-c search_path="${schema}" ${url.searchParams.get("options") ?? ""}`.trim());

export default defineConfig({
  experimental: { adapter: true },
  engine: "js",
  schema: "schema.prisma",
  // Otherwise Prisma's process stays until its idle connection times out.
  adapter: async () => new PrismaPg({ connectionString: url.toString(), allowExitOnIdle: true }, { schema }),
});
