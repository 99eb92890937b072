// Each operation once or more, and each error of the model, with the results checked.

import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-app-mesh";
import * as specs from "./specs.mjs";

/** Carries out the whole program. */
export class Run {
  called = new Set();
  errors = {};
  checks = 0;

  constructor(settings) {
    this.settings = settings;
    this.client = this.connect(settings);
  }

  /** Makes a client that never tries again and notes what it calls. */
  connect({ endpoint, accessKeyId, secretAccessKey }) {
    const client = new sdk.AppMeshClient({
      endpoint,
      region: this.settings.region,
      credentials: { accessKeyId, secretAccessKey },
      maxAttempts: 1,
    });
    client.middlewareStack.add(
      (next, context) => (args) => {
        this.called.add(context.commandName.replace(/Command$/, ""));
        return next(args);
      },
      { step: "initialize", name: "note" },
    );
    return client;
  }

  /** Compares what came with what was expected. */
  same(actual, expected, what) {
    this.checks++;
    assert.deepStrictEqual(actual, expected, what && new Error(`${what}: ${JSON.stringify(actual)} is not ${JSON.stringify(expected)}`));
  }

  holds(condition, what) {
    this.checks++;
    assert.ok(condition, what);
  }

  /** Calls an operation by its name. */
  async call(operation, parameters, client = this.client) {
    const answer = await client.send(new sdk[`${operation}Command`](parameters));
    const { httpStatusCode, requestId } = answer.$metadata;
    assert.equal(httpStatusCode, 200);
    assert.match(requestId, /^[0-9a-f-]{36}$/);
    delete answer.$metadata;
    return answer;
  }

  async all() {
    const provoking = this.provoke();
    // Looked at below; until then it is no unhandled rejection.
    provoking.catch(() => {});
    const arn = await this.meshes();
    for (const kind of this.kinds()) {
      await this.kind(kind);
    }
    await this.tags(arn);
    await this.refusals(arn);
    await this.deletes();
    await provoking;
  }

  /** Checks what is said of an object that was just made. */
  made({ metadata, status }, path) {
    const { account, region, mesh } = this.settings;
    this.same(status, { status: "ACTIVE" });
    this.same(metadata.arn, `arn:aws:appmesh:${region}:${account}:mesh/${mesh}${path}`);
    this.same([metadata.version, metadata.meshOwner, metadata.resourceOwner], [1, account, account]);
    this.holds(metadata.uid.length === 36, `the uid is ${metadata.uid}`);
    this.holds(metadata.createdAt instanceof Date, `createdAt is ${metadata.createdAt}`);
    this.holds(Math.abs(Date.now() - metadata.createdAt.getTime()) < 600_000, `createdAt is ${metadata.createdAt}`);
    this.same(metadata.lastUpdatedAt, metadata.createdAt);
  }

  /** Checks what is said of an object after its next version was made. */
  changed(before, after) {
    this.holds(after.lastUpdatedAt >= before.lastUpdatedAt, "lastUpdatedAt went back");
    this.same(after, { ...before, version: before.version + 1, lastUpdatedAt: after.lastUpdatedAt });
  }

  /** Reads a list to its end in pages of one. */
  async listed(operation, parameters, key) {
    const found = [];
    for await (const page of sdk[`paginate${operation}`]({ client: this.client, pageSize: 1 }, parameters)) {
      this.same(page[key].length, 1, `a page of ${operation}`);
      found.push(...page[key]);
    }
    return found;
  }

  async meshes() {
    const { mesh: meshName, account: meshOwner } = this.settings;
    let spec = { egressFilter: { type: "ALLOW_ALL" }, serviceDiscovery: { ipPreference: "IPv4_ONLY" } };
    const { mesh: made } = await this.call("CreateMesh", { meshName, spec, tags: specs.tags("team", "blue", "empty", "") });
    this.made(made, "");
    this.same(made.spec, spec);
    this.same((await this.call("DescribeMesh", { meshName, meshOwner })).mesh, made);
    spec = { egressFilter: { type: "DROP_ALL" } };
    const { mesh: updated } = await this.call("UpdateMesh", { meshName, spec });
    this.same(updated.spec, spec);
    this.changed(made.metadata, updated.metadata);
    const found = await this.listed("ListMeshes", {}, "meshes");
    const { uid: _, ...metadata } = updated.metadata;
    this.same(found.find((ref) => ref.meshName === meshName), { meshName, ...metadata });
    return metadata.arn;
  }

  /** What is made of each kind: two objects with a spec, the second of which is then changed to another. */
  kinds() {
    const listener = specs.port(8080, "http");
    const changedNode = { ...specs.cloudMap(), serviceDiscovery: { dns: { hostname: "green.internal" } } };
    const returnedNode = specs.node();
    returnedNode.listeners[0].healthCheck.port = 8080;
    const changedRoute = specs.route();
    changedRoute.priority = 0;
    changedRoute.httpRoute.action.weightedTargets = [
      { virtualNode: "green", weight: 100 },
      { virtualNode: "blue", weight: 0 },
    ];
    const { logging: _, ...changedGateway } = specs.gateway();
    const changedGatewayRoute = specs.gatewayRoute();
    changedGatewayRoute.httpRoute.match.hostname = { suffix: ".example.com" };
    return [
      {
        title: "VirtualNode",
        names: ["blue", "green"],
        specs: [specs.node(), specs.cloudMap(), changedNode],
        returned: returnedNode,
      },
      {
        title: "VirtualRouter",
        names: ["router", "spare"],
        specs: [{ listeners: [listener] }, { listeners: [listener] }, { listeners: [listener, specs.port(9090, "grpc")] }],
      },
      { title: "Route", parent: { virtualRouterName: "router" }, names: ["r1", "r2"], specs: [specs.route(), specs.route(), changedRoute] },
      {
        title: "VirtualService",
        names: ["shop.local", "a/b c:8@x+"],
        specs: [
          { provider: { virtualRouter: { virtualRouterName: "router" } } },
          {},
          { provider: { virtualNode: { virtualNodeName: "blue" } } },
        ],
      },
      { title: "VirtualGateway", names: ["gate", "spare"], specs: [specs.gateway(), specs.gateway(), changedGateway] },
      {
        title: "GatewayRoute",
        parent: { virtualGatewayName: "gate" },
        names: ["g1", "g2"],
        specs: [specs.gatewayRoute(), specs.gatewayRoute(), changedGatewayRoute],
      },
    ];
  }

  /** Makes, describes, lists and changes the objects of one kind. */
  async kind({ title, parent = {}, names, specs: [first, second, changed], returned = first }) {
    const member = title[0].toLowerCase() + title.slice(1);
    const place = { meshName: this.settings.mesh, ...parent };
    const at = (name) => ({ ...place, [`${member}Name`]: name });
    const above = Object.entries(parent).map(([key, name]) => `/${key.replace(/Name$/, "")}/${name}`).join("");

    const made = (await this.call(`Create${title}`, { ...at(names[0]), spec: first }))[member];
    this.made(made, `${above}/${member}/${names[0]}`);
    this.same(made.spec, returned);
    const described = await this.call(`Describe${title}`, { ...at(names[0]), meshOwner: this.settings.account });
    this.same(described[member], made);

    const other = (await this.call(`Create${title}`, { ...at(names[1]), spec: second }))[member];
    this.same(other.spec, second);
    const updated = (await this.call(`Update${title}`, { ...at(names[1]), spec: changed }))[member];
    this.same(updated.spec, changed);
    this.changed(other.metadata, updated.metadata);

    const found = await this.listed(`List${title}s`, place, `${member}s`);
    this.same(found.map((ref) => ref[`${member}Name`]), [...names].sort());
  }

  async tags(resourceArn) {
    await this.call("TagResource", { resourceArn, tags: specs.tags("team", "green", "stage", "test") });
    const all = await this.listed("ListTagsForResource", { resourceArn }, "tags");
    this.same(all, specs.tags("team", "green", "empty", "", "stage", "test"));
    await this.call("UntagResource", { resourceArn, tagKeys: ["empty", "never there"] });
    this.same(await this.call("ListTagsForResource", { resourceArn }), { tags: specs.tags("team", "green", "stage", "test") });
  }

  /** Checks that an error is of the class for code. */
  refusal(code, error) {
    this.holds(error instanceof sdk[code], `${code}: the call ended with ${error?.stack}`);
    this.holds(error instanceof sdk.AppMeshServiceException, code);
    this.same(error.name, code);
    this.holds(error.message.length > 0 && error.$metadata.requestId && error.$metadata.httpStatusCode >= 400, `${code}: ${error.stack}`);
    this.errors[code] = error.constructor.name;
  }

  /** Calls an operation that has to end with an error. */
  async refused(code, operation, parameters) {
    this.refusal(
      code,
      await this.call(operation, parameters).catch((error) => error),
    );
  }

  /** Meets the errors that need nothing but the furnished mesh. */
  async refusals(resourceArn) {
    const meshName = this.settings.mesh;
    await this.refused("NotFoundException", "DescribeVirtualNode", { meshName, virtualNodeName: "nowhere" });
    await this.refused("ConflictException", "CreateVirtualNode", { meshName, virtualNodeName: "blue", spec: {} });
    await this.refused("ResourceInUseException", "DeleteVirtualNode", { meshName, virtualNodeName: "blue" });
    const spec = { listeners: [specs.port(65536, "bogus")] };
    await this.refused("BadRequestException", "UpdateVirtualRouter", { meshName, virtualRouterName: "spare", spec });
    const many = Array.from({ length: 49 }, (_, i) => ({ key: `k${i}`, value: "" }));
    await this.refused("TooManyTagsException", "TagResource", { resourceArn, tags: many });
  }

  /** Meets the errors that the tests have prepared, each elsewhere. */
  async provoke() {
    for (const { code, call, mesh: meshName, times, ...login } of this.settings.provoked) {
      const client = this.connect(login);
      let error;
      for (let i = 0; i < times && !error; i++) {
        const virtualNodeName = call === "create" ? `${this.settings.mesh}-${i}` : "node";
        const made =
          call === "create"
            ? this.call("CreateVirtualNode", { meshName, virtualNodeName, spec: {} }, client)
            : this.call("DescribeVirtualNode", { meshName, virtualNodeName }, client);
        error = await made.then(
          () => undefined,
          (refused) => refused,
        );
      }
      this.refusal(code, error);
    }
  }

  /** Removes everything, what refers to something before what it refers to. */
  async deletes() {
    const order = ["GatewayRoute", "VirtualGateway", "VirtualService", "Route", "VirtualRouter", "VirtualNode"];
    const kinds = Object.fromEntries(this.kinds().map((kind) => [kind.title, kind]));
    for (const title of order) {
      const member = title[0].toLowerCase() + title.slice(1);
      for (const name of kinds[title].names) {
        const where = { meshName: this.settings.mesh, ...kinds[title].parent, [`${member}Name`]: name };
        const deleted = (await this.call(`Delete${title}`, where))[member];
        this.same(deleted.status, { status: "DELETED" });
        this.holds(deleted.metadata.version > 1, "deleting does not count the version on");
      }
    }
    const { mesh } = await this.call("DeleteMesh", { meshName: this.settings.mesh });
    this.same(mesh.status, { status: "DELETED" });
  }
}
