package fairlead;

import static fairlead.Specs.listener;
import static fairlead.Specs.tags;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;
import software.amazon.awssdk.services.appmesh.AppMeshClient;
import software.amazon.awssdk.services.appmesh.model.EgressFilterType;
import software.amazon.awssdk.services.appmesh.model.GatewayRouteData;
import software.amazon.awssdk.services.appmesh.model.GatewayRouteRef;
import software.amazon.awssdk.services.appmesh.model.GatewayRouteSpec;
import software.amazon.awssdk.services.appmesh.model.IpPreference;
import software.amazon.awssdk.services.appmesh.model.MeshData;
import software.amazon.awssdk.services.appmesh.model.MeshRef;
import software.amazon.awssdk.services.appmesh.model.MeshSpec;
import software.amazon.awssdk.services.appmesh.model.PortProtocol;
import software.amazon.awssdk.services.appmesh.model.ResourceMetadata;
import software.amazon.awssdk.services.appmesh.model.RouteData;
import software.amazon.awssdk.services.appmesh.model.RouteRef;
import software.amazon.awssdk.services.appmesh.model.RouteSpec;
import software.amazon.awssdk.services.appmesh.model.TagRef;
import software.amazon.awssdk.services.appmesh.model.VirtualGatewayData;
import software.amazon.awssdk.services.appmesh.model.VirtualGatewayRef;
import software.amazon.awssdk.services.appmesh.model.VirtualGatewaySpec;
import software.amazon.awssdk.services.appmesh.model.VirtualNodeData;
import software.amazon.awssdk.services.appmesh.model.VirtualNodeRef;
import software.amazon.awssdk.services.appmesh.model.VirtualNodeSpec;
import software.amazon.awssdk.services.appmesh.model.VirtualRouterData;
import software.amazon.awssdk.services.appmesh.model.VirtualRouterRef;
import software.amazon.awssdk.services.appmesh.model.VirtualRouterSpec;
import software.amazon.awssdk.services.appmesh.model.VirtualServiceData;
import software.amazon.awssdk.services.appmesh.model.VirtualServiceProvider;
import software.amazon.awssdk.services.appmesh.model.VirtualServiceRef;
import software.amazon.awssdk.services.appmesh.model.VirtualServiceSpec;

/** Makes two objects of each kind, and describes, lists, changes, tags and deletes them. */
final class Operations {
    private static final String ODD = "a/b c:8@x+";

    private final Checks checks;
    private final AppMeshClient client;
    private final String mesh;
    private final String owner;

    Operations(Checks checks) {
        this.checks = checks;
        this.client = checks.client(checks.settings.login());
        this.mesh = checks.settings.mesh();
        this.owner = checks.settings.account();
    }

    void run() {
        CompletableFuture<Void> provoking = CompletableFuture.runAsync(this::provoke);
        String arn = meshes();
        nodes();
        routers();
        routes();
        services();
        gateways();
        gatewayRoutes();
        taggings(arn);
        refusals(arn);
        deletes();
        provoking.join();
    }

    /** Checks a list that was read in pages of one, and returns what it held. */
    private <P, T> List<T> listed(Iterable<P> pages, Function<P, List<T>> items) {
        List<T> all = new ArrayList<>();
        for (P page : pages) {
            checks.same(1, items.apply(page).size());
            all.addAll(items.apply(page));
        }
        return all;
    }

    private <T> void named(List<T> refs, Function<T, String> name, String... expected) {
        checks.same(List.of(expected), refs.stream().map(name).toList());
    }

    private String meshes() {
        MeshSpec spec = MeshSpec.builder()
                .egressFilter(e -> e.type(EgressFilterType.ALLOW_ALL))
                .serviceDiscovery(d -> d.ipPreference(IpPreference.IP_V4_ONLY))
                .build();
        MeshData made = client.createMesh(r -> r.meshName(mesh).spec(spec).tags(tags("team", "blue", "empty", ""))).mesh();
        checks.made(made.metadata(), made.status().statusAsString(), "");
        checks.same(spec, made.spec());
        checks.same(made, client.describeMesh(r -> r.meshName(mesh).meshOwner(owner)).mesh());

        MeshSpec dropAll = MeshSpec.builder().egressFilter(e -> e.type(EgressFilterType.DROP_ALL)).build();
        MeshData updated = client.updateMesh(r -> r.meshName(mesh).spec(dropAll)).mesh();
        checks.same(dropAll, updated.spec());
        checks.changed(made.metadata(), updated.metadata());

        ResourceMetadata m = updated.metadata();
        MeshRef expected = MeshRef.builder().meshName(mesh).arn(m.arn()).meshOwner(m.meshOwner()).resourceOwner(m.resourceOwner())
                .version(m.version()).createdAt(m.createdAt()).lastUpdatedAt(m.lastUpdatedAt()).build();
        List<MeshRef> all = listed(client.listMeshesPaginator(r -> r.limit(1)), p -> p.meshes());
        checks.holds(all.contains(expected), expected + " is not in the list of meshes");
        return m.arn();
    }

    private void nodes() {
        VirtualNodeData made = client.createVirtualNode(r -> r.meshName(mesh).virtualNodeName("blue").spec(Specs.node(null))).virtualNode();
        checks.made(made.metadata(), made.status().statusAsString(), "/virtualNode/blue");
        checks.same(Specs.node(8080), made.spec());
        checks.same(made, client.describeVirtualNode(r -> r.meshName(mesh).virtualNodeName("blue").meshOwner(owner)).virtualNode());

        VirtualNodeData green = client.createVirtualNode(r -> r.meshName(mesh).virtualNodeName("green").spec(Specs.cloudMap())).virtualNode();
        checks.same(Specs.cloudMap(), green.spec());
        VirtualNodeSpec changed = Specs.cloudMap().toBuilder().serviceDiscovery(d -> d.dns(dns -> dns.hostname("green.internal"))).build();
        VirtualNodeData updated = client.updateVirtualNode(r -> r.meshName(mesh).virtualNodeName("green").spec(changed)).virtualNode();
        checks.same(changed, updated.spec());
        checks.changed(green.metadata(), updated.metadata());

        named(listed(client.listVirtualNodesPaginator(r -> r.meshName(mesh).limit(1)), p -> p.virtualNodes()),
                VirtualNodeRef::virtualNodeName, "blue", "green");
    }

    private void routers() {
        VirtualRouterSpec spec = VirtualRouterSpec.builder().listeners(listener(8080, PortProtocol.HTTP)).build();
        VirtualRouterData made = client.createVirtualRouter(r -> r.meshName(mesh).virtualRouterName("router").spec(spec)).virtualRouter();
        checks.made(made.metadata(), made.status().statusAsString(), "/virtualRouter/router");
        checks.same(spec, made.spec());
        checks.same(made, client.describeVirtualRouter(r -> r.meshName(mesh).virtualRouterName("router").meshOwner(owner)).virtualRouter());

        VirtualRouterData spare = client.createVirtualRouter(r -> r.meshName(mesh).virtualRouterName("spare").spec(spec)).virtualRouter();
        VirtualRouterSpec changed =
                VirtualRouterSpec.builder().listeners(listener(8080, PortProtocol.HTTP), listener(9090, PortProtocol.GRPC)).build();
        VirtualRouterData updated = client.updateVirtualRouter(r -> r.meshName(mesh).virtualRouterName("spare").spec(changed)).virtualRouter();
        checks.same(changed, updated.spec());
        checks.changed(spare.metadata(), updated.metadata());

        named(listed(client.listVirtualRoutersPaginator(r -> r.meshName(mesh).limit(1)), p -> p.virtualRouters()),
                VirtualRouterRef::virtualRouterName, "router", "spare");
    }

    private void routes() {
        RouteSpec spec = Specs.route();
        RouteData made = client.createRoute(r -> r.meshName(mesh).virtualRouterName("router").routeName("r1").spec(spec)).route();
        checks.made(made.metadata(), made.status().statusAsString(), "/virtualRouter/router/route/r1");
        checks.same(spec, made.spec());
        checks.same(made, client.describeRoute(r -> r.meshName(mesh).virtualRouterName("router").routeName("r1").meshOwner(owner)).route());

        RouteData second = client.createRoute(r -> r.meshName(mesh).virtualRouterName("router").routeName("r2").spec(spec)).route();
        RouteSpec changed = spec.toBuilder().priority(0)
                .httpRoute(spec.httpRoute().toBuilder().action(a -> a.weightedTargets(
                        t -> t.virtualNode("green").weight(100), t -> t.virtualNode("blue").weight(0))).build())
                .build();
        RouteData updated = client.updateRoute(r -> r.meshName(mesh).virtualRouterName("router").routeName("r2").spec(changed)).route();
        checks.same(changed, updated.spec());
        checks.changed(second.metadata(), updated.metadata());

        named(listed(client.listRoutesPaginator(r -> r.meshName(mesh).virtualRouterName("router").limit(1)), p -> p.routes()),
                RouteRef::routeName, "r1", "r2");
    }

    private void services() {
        VirtualServiceSpec spec =
                VirtualServiceSpec.builder().provider(VirtualServiceProvider.fromVirtualRouter(p -> p.virtualRouterName("router"))).build();
        VirtualServiceData made = client.createVirtualService(r -> r.meshName(mesh).virtualServiceName("shop.local").spec(spec)).virtualService();
        checks.made(made.metadata(), made.status().statusAsString(), "/virtualService/shop.local");
        checks.same(spec, made.spec());
        checks.same(made, client.describeVirtualService(r -> r.meshName(mesh).virtualServiceName("shop.local").meshOwner(owner)).virtualService());

        VirtualServiceSpec none = VirtualServiceSpec.builder().build();
        VirtualServiceData odd = client.createVirtualService(r -> r.meshName(mesh).virtualServiceName(ODD).spec(none)).virtualService();
        checks.same(none, odd.spec());
        VirtualServiceSpec changed =
                VirtualServiceSpec.builder().provider(VirtualServiceProvider.fromVirtualNode(p -> p.virtualNodeName("blue"))).build();
        VirtualServiceData updated = client.updateVirtualService(r -> r.meshName(mesh).virtualServiceName(ODD).spec(changed)).virtualService();
        checks.same(changed, updated.spec());
        checks.same(VirtualServiceProvider.Type.VIRTUAL_NODE, updated.spec().provider().type());
        checks.changed(odd.metadata(), updated.metadata());

        named(listed(client.listVirtualServicesPaginator(r -> r.meshName(mesh).limit(1)), p -> p.virtualServices()),
                VirtualServiceRef::virtualServiceName, ODD, "shop.local");
    }

    private void gateways() {
        VirtualGatewaySpec spec = Specs.gateway();
        VirtualGatewayData made = client.createVirtualGateway(r -> r.meshName(mesh).virtualGatewayName("gate").spec(spec)).virtualGateway();
        checks.made(made.metadata(), made.status().statusAsString(), "/virtualGateway/gate");
        checks.same(spec, made.spec());
        checks.same(made, client.describeVirtualGateway(r -> r.meshName(mesh).virtualGatewayName("gate").meshOwner(owner)).virtualGateway());

        VirtualGatewayData spare = client.createVirtualGateway(r -> r.meshName(mesh).virtualGatewayName("spare").spec(spec)).virtualGateway();
        VirtualGatewaySpec changed = VirtualGatewaySpec.builder().listeners(spec.listeners()).build();
        VirtualGatewayData updated = client.updateVirtualGateway(r -> r.meshName(mesh).virtualGatewayName("spare").spec(changed)).virtualGateway();
        checks.same(changed, updated.spec());
        checks.changed(spare.metadata(), updated.metadata());

        named(listed(client.listVirtualGatewaysPaginator(r -> r.meshName(mesh).limit(1)), p -> p.virtualGateways()),
                VirtualGatewayRef::virtualGatewayName, "gate", "spare");
    }

    private void gatewayRoutes() {
        GatewayRouteSpec spec = Specs.gatewayRoute();
        GatewayRouteData made =
                client.createGatewayRoute(r -> r.meshName(mesh).virtualGatewayName("gate").gatewayRouteName("g1").spec(spec)).gatewayRoute();
        checks.made(made.metadata(), made.status().statusAsString(), "/virtualGateway/gate/gatewayRoute/g1");
        checks.same(spec, made.spec());
        checks.same(made, client.describeGatewayRoute(
                r -> r.meshName(mesh).virtualGatewayName("gate").gatewayRouteName("g1").meshOwner(owner)).gatewayRoute());

        GatewayRouteData second =
                client.createGatewayRoute(r -> r.meshName(mesh).virtualGatewayName("gate").gatewayRouteName("g2").spec(spec)).gatewayRoute();
        GatewayRouteSpec changed = spec.toBuilder()
                .httpRoute(spec.httpRoute().toBuilder()
                        .match(spec.httpRoute().match().toBuilder().hostname(h -> h.suffix(".example.com")).build())
                        .build())
                .build();
        GatewayRouteData updated =
                client.updateGatewayRoute(r -> r.meshName(mesh).virtualGatewayName("gate").gatewayRouteName("g2").spec(changed)).gatewayRoute();
        checks.same(changed, updated.spec());
        checks.changed(second.metadata(), updated.metadata());

        named(listed(client.listGatewayRoutesPaginator(r -> r.meshName(mesh).virtualGatewayName("gate").limit(1)), p -> p.gatewayRoutes()),
                GatewayRouteRef::gatewayRouteName, "g1", "g2");
    }

    private void taggings(String arn) {
        client.tagResource(r -> r.resourceArn(arn).tags(tags("team", "green", "stage", "test")));
        List<TagRef> all = listed(client.listTagsForResourcePaginator(r -> r.resourceArn(arn).limit(1)), p -> p.tags());
        checks.same(tags("team", "green", "empty", "", "stage", "test"), all);
        client.untagResource(r -> r.resourceArn(arn).tagKeys("empty", "never there"));
        checks.same(tags("team", "green", "stage", "test"), client.listTagsForResource(r -> r.resourceArn(arn)).tags());
    }

    /** Meets the errors that need nothing but the furnished mesh. */
    private void refusals(String arn) {
        checks.refused("NotFoundException", () -> client.describeVirtualNode(r -> r.meshName(mesh).virtualNodeName("nowhere")));
        checks.refused("ConflictException", () -> client.createVirtualNode(r -> r.meshName(mesh).virtualNodeName("blue").spec(s -> {})));
        checks.refused("ResourceInUseException", () -> client.deleteVirtualNode(r -> r.meshName(mesh).virtualNodeName("blue")));
        checks.refused("BadRequestException", () -> client.updateVirtualRouter(r -> r.meshName(mesh).virtualRouterName("spare")
                .spec(s -> s.listeners(l -> l.portMapping(p -> p.port(65536).protocol("bogus"))))));
        List<TagRef> many = new ArrayList<>();
        for (int i = 0; i < 49; i++) {
            many.addAll(tags("k" + i, ""));
        }
        checks.refused("TooManyTagsException", () -> client.tagResource(r -> r.resourceArn(arn).tags(many)));
    }

    /** Meets the errors that the tests have prepared, each elsewhere. */
    private void provoke() {
        for (Main.Provoked p : checks.settings.provoked()) {
            try (AppMeshClient elsewhere = checks.client(p.login())) {
                checks.refused(p.code(), () -> {
                    for (int i = 0; i < p.times(); i++) {
                        String name = p.call().equals("create") ? mesh + "-" + i : "node";
                        if (p.call().equals("create")) {
                            elsewhere.createVirtualNode(r -> r.meshName(p.mesh()).virtualNodeName(name).spec(s -> {}));
                        } else {
                            elsewhere.describeVirtualNode(r -> r.meshName(p.mesh()).virtualNodeName(name));
                        }
                    }
                });
            }
        }
    }

    /** Removes everything, what refers to something before what it refers to. */
    private void deletes() {
        for (String name : List.of("g1", "g2")) {
            checks.same("DELETED", client.deleteGatewayRoute(r -> r.meshName(mesh).virtualGatewayName("gate").gatewayRouteName(name))
                    .gatewayRoute().status().statusAsString());
        }
        for (String name : List.of("gate", "spare")) {
            checks.same("DELETED", client.deleteVirtualGateway(r -> r.meshName(mesh).virtualGatewayName(name))
                    .virtualGateway().status().statusAsString());
        }
        for (String name : List.of("shop.local", ODD)) {
            checks.same("DELETED", client.deleteVirtualService(r -> r.meshName(mesh).virtualServiceName(name))
                    .virtualService().status().statusAsString());
        }
        for (String name : List.of("r1", "r2")) {
            checks.same("DELETED", client.deleteRoute(r -> r.meshName(mesh).virtualRouterName("router").routeName(name))
                    .route().status().statusAsString());
        }
        for (String name : List.of("router", "spare")) {
            checks.same("DELETED", client.deleteVirtualRouter(r -> r.meshName(mesh).virtualRouterName(name))
                    .virtualRouter().status().statusAsString());
        }
        for (String name : List.of("blue", "green")) {
            VirtualNodeData deleted = client.deleteVirtualNode(r -> r.meshName(mesh).virtualNodeName(name)).virtualNode();
            checks.same("DELETED", deleted.status().statusAsString());
            checks.holds(deleted.metadata().version() > 1, "deleting a node does not count its version on");
        }
        checks.same("DELETED", client.deleteMesh(r -> r.meshName(mesh)).mesh().status().statusAsString());
    }
}
