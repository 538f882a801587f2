// The button that ends a session, shown if there is a session.

const signOut = document.getElementById("sign-out");
signOut.hidden = !document.cookie.split("; ").includes("oo_ml_signed_in=1");
