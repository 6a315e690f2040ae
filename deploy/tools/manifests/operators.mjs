// Reads resources of operators, one JSON object a line, and writes what is wrong with each ("" for nothing), as JSON.
// `NODE_MODULES` is where the models are. They check types and required fields, and let unknown fields pass, as a cluster
// does that prunes them. So each field is also given values of other types: where none is refused, the schema has no
// such field.
import { createInterface } from "node:readline";
import { join } from "node:path";

const load = (path) => import(join(process.env.NODE_MODULES, "@kubernetes-models", path, "index.js"));
const models = {
  "monitoring.coreos.com/v1": await load("prometheus-operator/monitoring.coreos.com/v1"),
  "gateway.networking.k8s.io/v1": await load("gateway-api/gateway.networking.k8s.io/v1"),
  "argoproj.io/v1alpha1": await load("argo-rollouts/argoproj.io/v1alpha1"),
};
const OTHERS = [7, "text", true, [7], { other: 7 }, ["text"], [{ other: 7 }]];
// The pod of a Rollout is checked as that of a Deployment, by the schemas of Kubernetes.
const ELSEWHERE = { Rollout: "/spec/template/" };

function problem(resource) {
  try {
    new (models[resource.apiVersion][resource.kind])(resource).validate();
    return "";
  } catch (error) {
    return String(error.message || error).replaceAll("\n", "; ") || "refused";
  }
}

function unknown(resource, value, path) {
  if (value === null || typeof value !== "object") return "";
  for (const name of Object.keys(value)) {
    const place = `${path}/${name}`, kept = value[name];
    if (`${place}/`.startsWith(ELSEWHERE[resource.kind] ?? "-")) continue;
    if (!Array.isArray(value)) {
      const refused = OTHERS.some((other) => {
        value[name] = other;
        return problem(resource) !== "";
      });
      value[name] = kept;
      if (!refused) return `${place}: there is no such field`;
    }
    const below = unknown(resource, kept, place);
    if (below) return below;
  }
  return "";
}

for await (const line of createInterface({ input: process.stdin })) {
  const resource = JSON.parse(line);
  const known = models[resource.apiVersion]?.[resource.kind];
  const text = known ? problem(resource) || unknown(resource, resource, "") : `no model of ${resource.apiVersion} ${resource.kind}`;
  process.stdout.write(JSON.stringify(text) + "\n");
}
